"""Families of generative models. A new one is a file here and an entry in FAMILIES."""

from __future__ import annotations

from training.families.dcgan import DCGAN
from training.families.family import Family
from training.families.mlp_gan import MLP_GAN
from training.families.mlp_vae import MLP_VAE
from training.families.r3gan import R3GAN
from training.families.residual_gan import RESIDUAL_GAN
from training.families.vae import VAE
from training.families.vae_gan import VAE_GAN

__all__ = ["FAMILIES"]

FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        DCGAN,
        MLP_GAN,
        R3GAN,
        RESIDUAL_GAN,
        VAE,
        MLP_VAE,
        VAE_GAN,
    )
}

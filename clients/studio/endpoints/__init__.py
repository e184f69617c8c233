"""What the addresses answer, by kind: models, single images, several in one, latents."""

"""Protobuf messages: valid ones, valid ones with hostile fields, and bytes that are no message at all."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from google.protobuf import descriptor as pb_descriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from clients.bench.targets import direct_request
from clients.soak.fuzz.images import hostile_image
from ganvas.v1 import sampler_pb2 as pb

__all__ = ["hostile_message", "mutated", "random_bytes", "valid_message"]

Field = pb_descriptor.FieldDescriptor

NAMES = ("tiny-gan", "tiny-vae", "plain-gan", "tiny-gan-decode", "tiny-vae-encode")
TEXTS = (*NAMES, "", "1", "2", "-1", "\u0661", "../../etc/passwd", "a\x00b", "nobody", "é" * 40, "%s%n", "x" * 5000)
INTEGERS = (0, 1, 2, 3, 16, 255, 256, 257, 65536, 2**31 - 1, 2**31, 2**32, 2**53, 2**63 - 1, 2**64 - 1)
FLOATS = (0.0, 1.0, 0.7, -0.0, -1.0, 1.5, 1.5000001, 1e-45, 3.4e38, float("nan"), float("inf"), float("-inf"))
LENGTHS = (0, 1, 1, 1, 2, 3, 16, 17, 256, 257)
MAX_DEPTH = 4

SIGNED = {Field.TYPE_INT32: 32, Field.TYPE_SINT32: 32, Field.TYPE_SFIXED32: 32}
SIGNED |= {Field.TYPE_INT64: 64, Field.TYPE_SINT64: 64, Field.TYPE_SFIXED64: 64}
UNSIGNED = {Field.TYPE_UINT32: 32, Field.TYPE_FIXED32: 32, Field.TYPE_UINT64: 64, Field.TYPE_FIXED64: 64}


def random_bytes(rng: random.Random) -> bytes:
    """Nothing, noise, or the beginning of fields that promise more than comes."""
    return rng.choice(
        (
            b"",
            rng.randbytes(rng.randint(1, 300)),
            b"\x0a\xff\xff\xff\xff\x0f" + rng.randbytes(10),
            b"\x0b" * rng.randint(1, 2000),  # groups within groups
            b"\x80" * rng.randint(1, 40),  # a number without end
            bytes([rng.randrange(256)]) * rng.randint(1, 2000),
        )
    )


def mutated(payload: bytes, rng: random.Random) -> bytes:
    """A few bytes flipped, cut out, doubled or put in."""
    data = bytearray(payload or b"\x00")
    for _ in range(rng.randint(1, 8)):
        place = rng.randrange(len(data) + 1)
        length = min(rng.randint(1, 16), len(data) - place)
        change = rng.randrange(5)
        if change == 0 and place < len(data):
            data[place] ^= 1 << rng.randrange(8)
        elif change == 1:
            del data[place : place + length]
        elif change == 2:
            data[place:place] = data[place : place + length]
        elif change == 3:
            data[place:place] = rng.randbytes(length)
        else:
            del data[place:]
    return bytes(data)


def valid_message(method: str, request_type: Any, rng: random.Random) -> bytes:
    """A request that the method answers, or for one that is not known here, an empty message."""
    name = rng.choice(NAMES[:3])
    makers: dict[str, Callable[[], Message]] = {
        "Sample": lambda: pb.SampleRequest(model=name, seeds=[rng.getrandbits(64)], truncation=0.7),
        "SampleStream": lambda: pb.SampleRequest(model=name, range=pb.SeedRange(first=5, count=40)),
        "Decode": lambda: pb.DecodeRequest(model="tiny-gan", latents=[0.5] * 16, labels=[1]),
        "Encode": lambda: pb.EncodeRequest(model="tiny-vae", images=[rng.randbytes(1024)]),
        "Walk": lambda: pb.WalkRequest(model=name, seeds=[1, 2], steps=4),
        "GetModel": lambda: pb.GetModelRequest(model=name),
    }
    if method in makers:
        return makers[method]().SerializeToString()
    if method == "ModelInfer":
        return direct_request("tiny-gan", [rng.getrandbits(64)], labels=[3])
    message: Any = GetMessageClass(request_type)()
    for field in request_type.fields:
        if field.name == "name":
            message.name = name
    return bytes(message.SerializeToString())


def hostile_message(message_type: Any, rng: random.Random) -> bytes:
    """A message that can be decoded, of values at and beyond every limit."""
    return _hostile(message_type, rng, 0).SerializeToString()


def _hostile(message_type: Any, rng: random.Random, depth: int) -> Message:
    message = GetMessageClass(message_type)()
    for field in message_type.fields:
        # A model that exists, or all else is looked at no more.
        named = field.name in ("model", "name", "model_name")
        if named and rng.random() < 0.8:
            setattr(message, field.name, rng.choice(NAMES))
        elif rng.random() < 0.6 and depth < MAX_DEPTH:
            _fill(message, field, rng, depth)
    return message


def _fill(message: Message, field: Any, rng: random.Random, depth: int) -> None:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        _fill_map(getattr(message, field.name), field.message_type, rng, depth)
    elif field.is_repeated:
        target, count = getattr(message, field.name), rng.choice(LENGTHS)
        if field.message_type is not None:
            target.extend(_hostile(field.message_type, rng, depth + 1) for _ in range(min(count, 3)))
        else:
            long = rng.random() < 0.01 and field.type not in (Field.TYPE_BYTES, Field.TYPE_STRING)
            count = 100_000 if long else count
            values = [_value(field, rng) for _ in range(min(count, 300))]
            target.extend((values * (count // max(1, len(values)) + 1))[:count] if values else [])
    elif field.message_type is not None:
        getattr(message, field.name).CopyFrom(_hostile(field.message_type, rng, depth + 1))
    else:
        setattr(message, field.name, _value(field, rng))


def _fill_map(target: Any, entry: Any, rng: random.Random, depth: int) -> None:
    key, value = entry.fields_by_name["key"], entry.fields_by_name["value"]
    for _ in range(rng.randint(0, 3)):
        if value.message_type is not None:
            target[_value(key, rng)].CopyFrom(_hostile(value.message_type, rng, depth + 1))
        else:
            target[_value(key, rng)] = _value(value, rng)


def _value(field: Any, rng: random.Random) -> Any:
    kind = field.type
    if kind in SIGNED:
        bits = SIGNED[kind]
        number = rng.choice(INTEGERS) * rng.choice((1, 1, -1))
        return max(-(2 ** (bits - 1)), min(2 ** (bits - 1) - 1, number))
    if kind in UNSIGNED:
        return min(2 ** UNSIGNED[kind] - 1, rng.choice(INTEGERS))
    if kind in (Field.TYPE_FLOAT, Field.TYPE_DOUBLE):
        return rng.choice(FLOATS)
    if kind == Field.TYPE_BOOL:
        return rng.random() < 0.5
    if kind == Field.TYPE_ENUM:
        return rng.choice((0, 1, 2, 3, 4, 5, -1, 99, 2**31 - 1))
    if kind == Field.TYPE_STRING:
        return rng.choice(TEXTS)
    return rng.choice((b"", rng.randbytes(8), rng.randbytes(1024), hostile_image(rng)))

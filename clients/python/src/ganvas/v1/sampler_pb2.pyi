from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Format(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FORMAT_UNSPECIFIED: _ClassVar[Format]
    FORMAT_RAW: _ClassVar[Format]
    FORMAT_PNG: _ClassVar[Format]
    FORMAT_JPEG: _ClassVar[Format]
    FORMAT_WEBP: _ClassVar[Format]
FORMAT_UNSPECIFIED: Format
FORMAT_RAW: Format
FORMAT_PNG: Format
FORMAT_JPEG: Format
FORMAT_WEBP: Format

class SeedRange(_message.Message):
    __slots__ = ("first", "count")
    FIRST_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    first: int
    count: int
    def __init__(self, first: _Optional[int] = ..., count: _Optional[int] = ...) -> None: ...

class SampleRequest(_message.Message):
    __slots__ = ("model", "version", "seeds", "range", "truncation", "labels", "format", "digest")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    SEEDS_FIELD_NUMBER: _ClassVar[int]
    RANGE_FIELD_NUMBER: _ClassVar[int]
    TRUNCATION_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    model: str
    version: str
    seeds: _containers.RepeatedScalarFieldContainer[int]
    range: SeedRange
    truncation: float
    labels: _containers.RepeatedScalarFieldContainer[int]
    format: Format
    digest: str
    def __init__(self, model: _Optional[str] = ..., version: _Optional[str] = ..., seeds: _Optional[_Iterable[int]] = ..., range: _Optional[_Union[SeedRange, _Mapping]] = ..., truncation: _Optional[float] = ..., labels: _Optional[_Iterable[int]] = ..., format: _Optional[_Union[Format, str]] = ..., digest: _Optional[str] = ...) -> None: ...

class Image(_message.Message):
    __slots__ = ("index", "seed", "label", "data")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    index: int
    seed: int
    label: int
    data: bytes
    def __init__(self, index: _Optional[int] = ..., seed: _Optional[int] = ..., label: _Optional[int] = ..., data: _Optional[bytes] = ...) -> None: ...

class ImageInfo(_message.Message):
    __slots__ = ("model", "version", "digest", "format", "height", "width", "channels", "truncation")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    CHANNELS_FIELD_NUMBER: _ClassVar[int]
    TRUNCATION_FIELD_NUMBER: _ClassVar[int]
    model: str
    version: str
    digest: str
    format: Format
    height: int
    width: int
    channels: int
    truncation: float
    def __init__(self, model: _Optional[str] = ..., version: _Optional[str] = ..., digest: _Optional[str] = ..., format: _Optional[_Union[Format, str]] = ..., height: _Optional[int] = ..., width: _Optional[int] = ..., channels: _Optional[int] = ..., truncation: _Optional[float] = ...) -> None: ...

class Timing(_message.Message):
    __slots__ = ("total_us", "inference_us", "encode_us", "queue_us")
    TOTAL_US_FIELD_NUMBER: _ClassVar[int]
    INFERENCE_US_FIELD_NUMBER: _ClassVar[int]
    ENCODE_US_FIELD_NUMBER: _ClassVar[int]
    QUEUE_US_FIELD_NUMBER: _ClassVar[int]
    total_us: int
    inference_us: int
    encode_us: int
    queue_us: int
    def __init__(self, total_us: _Optional[int] = ..., inference_us: _Optional[int] = ..., encode_us: _Optional[int] = ..., queue_us: _Optional[int] = ...) -> None: ...

class SampleResponse(_message.Message):
    __slots__ = ("info", "images", "timing")
    INFO_FIELD_NUMBER: _ClassVar[int]
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    TIMING_FIELD_NUMBER: _ClassVar[int]
    info: ImageInfo
    images: _containers.RepeatedCompositeFieldContainer[Image]
    timing: Timing
    def __init__(self, info: _Optional[_Union[ImageInfo, _Mapping]] = ..., images: _Optional[_Iterable[_Union[Image, _Mapping]]] = ..., timing: _Optional[_Union[Timing, _Mapping]] = ...) -> None: ...

class DecodeRequest(_message.Message):
    __slots__ = ("model", "version", "latents", "labels", "format", "shape", "digest")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    LATENTS_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    model: str
    version: str
    latents: _containers.RepeatedScalarFieldContainer[float]
    labels: _containers.RepeatedScalarFieldContainer[int]
    format: Format
    shape: _containers.RepeatedScalarFieldContainer[int]
    digest: str
    def __init__(self, model: _Optional[str] = ..., version: _Optional[str] = ..., latents: _Optional[_Iterable[float]] = ..., labels: _Optional[_Iterable[int]] = ..., format: _Optional[_Union[Format, str]] = ..., shape: _Optional[_Iterable[int]] = ..., digest: _Optional[str] = ...) -> None: ...

class DecodeResponse(_message.Message):
    __slots__ = ("info", "images", "timing")
    INFO_FIELD_NUMBER: _ClassVar[int]
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    TIMING_FIELD_NUMBER: _ClassVar[int]
    info: ImageInfo
    images: _containers.RepeatedCompositeFieldContainer[Image]
    timing: Timing
    def __init__(self, info: _Optional[_Union[ImageInfo, _Mapping]] = ..., images: _Optional[_Iterable[_Union[Image, _Mapping]]] = ..., timing: _Optional[_Union[Timing, _Mapping]] = ...) -> None: ...

class EncodeRequest(_message.Message):
    __slots__ = ("model", "version", "images", "format", "digest", "shape")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    model: str
    version: str
    images: _containers.RepeatedScalarFieldContainer[bytes]
    format: Format
    digest: str
    shape: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, model: _Optional[str] = ..., version: _Optional[str] = ..., images: _Optional[_Iterable[bytes]] = ..., format: _Optional[_Union[Format, str]] = ..., digest: _Optional[str] = ..., shape: _Optional[_Iterable[int]] = ...) -> None: ...

class EncodeResponse(_message.Message):
    __slots__ = ("model", "version", "digest", "latent_shape", "mean", "logvar", "timing")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    LATENT_SHAPE_FIELD_NUMBER: _ClassVar[int]
    MEAN_FIELD_NUMBER: _ClassVar[int]
    LOGVAR_FIELD_NUMBER: _ClassVar[int]
    TIMING_FIELD_NUMBER: _ClassVar[int]
    model: str
    version: str
    digest: str
    latent_shape: _containers.RepeatedScalarFieldContainer[int]
    mean: _containers.RepeatedScalarFieldContainer[float]
    logvar: _containers.RepeatedScalarFieldContainer[float]
    timing: Timing
    def __init__(self, model: _Optional[str] = ..., version: _Optional[str] = ..., digest: _Optional[str] = ..., latent_shape: _Optional[_Iterable[int]] = ..., mean: _Optional[_Iterable[float]] = ..., logvar: _Optional[_Iterable[float]] = ..., timing: _Optional[_Union[Timing, _Mapping]] = ...) -> None: ...

class WalkRequest(_message.Message):
    __slots__ = ("model", "version", "seeds", "steps", "loop", "truncation", "labels", "format", "digest", "first_frame")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    SEEDS_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    LOOP_FIELD_NUMBER: _ClassVar[int]
    TRUNCATION_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    FIRST_FRAME_FIELD_NUMBER: _ClassVar[int]
    model: str
    version: str
    seeds: _containers.RepeatedScalarFieldContainer[int]
    steps: int
    loop: bool
    truncation: float
    labels: _containers.RepeatedScalarFieldContainer[int]
    format: Format
    digest: str
    first_frame: int
    def __init__(self, model: _Optional[str] = ..., version: _Optional[str] = ..., seeds: _Optional[_Iterable[int]] = ..., steps: _Optional[int] = ..., loop: _Optional[bool] = ..., truncation: _Optional[float] = ..., labels: _Optional[_Iterable[int]] = ..., format: _Optional[_Union[Format, str]] = ..., digest: _Optional[str] = ..., first_frame: _Optional[int] = ...) -> None: ...

class WalkResponse(_message.Message):
    __slots__ = ("info", "images", "timing")
    INFO_FIELD_NUMBER: _ClassVar[int]
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    TIMING_FIELD_NUMBER: _ClassVar[int]
    info: ImageInfo
    images: _containers.RepeatedCompositeFieldContainer[Image]
    timing: Timing
    def __init__(self, info: _Optional[_Union[ImageInfo, _Mapping]] = ..., images: _Optional[_Iterable[_Union[Image, _Mapping]]] = ..., timing: _Optional[_Union[Timing, _Mapping]] = ...) -> None: ...

class ListModelsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListModelsResponse(_message.Message):
    __slots__ = ("models",)
    MODELS_FIELD_NUMBER: _ClassVar[int]
    models: _containers.RepeatedCompositeFieldContainer[Model]
    def __init__(self, models: _Optional[_Iterable[_Union[Model, _Mapping]]] = ...) -> None: ...

class GetModelRequest(_message.Message):
    __slots__ = ("model", "version", "digest")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    model: str
    version: str
    digest: str
    def __init__(self, model: _Optional[str] = ..., version: _Optional[str] = ..., digest: _Optional[str] = ...) -> None: ...

class GetModelResponse(_message.Message):
    __slots__ = ("model", "certificate_json", "recent", "encode_certificate_json")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_JSON_FIELD_NUMBER: _ClassVar[int]
    RECENT_FIELD_NUMBER: _ClassVar[int]
    ENCODE_CERTIFICATE_JSON_FIELD_NUMBER: _ClassVar[int]
    model: Model
    certificate_json: str
    recent: Timing
    encode_certificate_json: str
    def __init__(self, model: _Optional[_Union[Model, _Mapping]] = ..., certificate_json: _Optional[str] = ..., recent: _Optional[_Union[Timing, _Mapping]] = ..., encode_certificate_json: _Optional[str] = ...) -> None: ...

class Model(_message.Message):
    __slots__ = ("name", "version", "versions", "digest", "family", "height", "width", "channels", "latent_shape", "labels", "can_encode", "precision", "limits", "golden", "out")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    FAMILY_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    CHANNELS_FIELD_NUMBER: _ClassVar[int]
    LATENT_SHAPE_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    CAN_ENCODE_FIELD_NUMBER: _ClassVar[int]
    PRECISION_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    GOLDEN_FIELD_NUMBER: _ClassVar[int]
    OUT_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: str
    versions: _containers.RepeatedScalarFieldContainer[str]
    digest: str
    family: str
    height: int
    width: int
    channels: int
    latent_shape: _containers.RepeatedScalarFieldContainer[int]
    labels: _containers.RepeatedScalarFieldContainer[str]
    can_encode: bool
    precision: str
    limits: Limits
    golden: str
    out: str
    def __init__(self, name: _Optional[str] = ..., version: _Optional[str] = ..., versions: _Optional[_Iterable[str]] = ..., digest: _Optional[str] = ..., family: _Optional[str] = ..., height: _Optional[int] = ..., width: _Optional[int] = ..., channels: _Optional[int] = ..., latent_shape: _Optional[_Iterable[int]] = ..., labels: _Optional[_Iterable[str]] = ..., can_encode: _Optional[bool] = ..., precision: _Optional[str] = ..., limits: _Optional[_Union[Limits, _Mapping]] = ..., golden: _Optional[str] = ..., out: _Optional[str] = ...) -> None: ...

class Limits(_message.Message):
    __slots__ = ("truncation_max", "max_count", "max_stream_count", "max_batch_size")
    TRUNCATION_MAX_FIELD_NUMBER: _ClassVar[int]
    MAX_COUNT_FIELD_NUMBER: _ClassVar[int]
    MAX_STREAM_COUNT_FIELD_NUMBER: _ClassVar[int]
    MAX_BATCH_SIZE_FIELD_NUMBER: _ClassVar[int]
    truncation_max: float
    max_count: int
    max_stream_count: int
    max_batch_size: int
    def __init__(self, truncation_max: _Optional[float] = ..., max_count: _Optional[int] = ..., max_stream_count: _Optional[int] = ..., max_batch_size: _Optional[int] = ...) -> None: ...

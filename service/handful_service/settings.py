"""What an operator may set. Read from `HANDFUL_*` when made, never at import."""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from handful_bundle.pixels import MAX_PIXELS
from handful_bundle.session import Device

MEBIBYTE = 2**20
REGISTRY_SCHEME = "models:/"


class Settings(BaseSettings):
    """The service's settings; each field is the environment variable `HANDFUL_<FIELD>`."""

    model_config = SettingsConfigDict(
        env_prefix="HANDFUL_", env_ignore_empty=True, frozen=True, extra="ignore"
    )

    model: str = Field(
        "models:/handful@champion",
        min_length=1,
        description="`models:/NAME@ALIAS`, `models:/NAME/VERSION`, or a bundle folder",
    )
    host: str = Field("127.0.0.1", min_length=1, description="address to listen on")
    port: int = Field(8000, ge=0, le=65_535, description="port to listen on; 0 picks a free one")
    hosts: str | None = Field(
        None, description="names that clients may call the service by, with commas between"
    )
    device: Device = Field("auto", description="where the model runs: auto, cpu or cuda")
    workers: int = Field(1, ge=1, le=256, description="server processes, each with its own model")
    threads: int | None = Field(
        None, ge=1, le=1024, description="CPU threads of one model run; default: the CPU quota"
    )
    decode_threads: int | None = Field(
        None, ge=1, le=1024, description="threads that decode images; default: the CPU quota"
    )

    gpu_memory_bytes: int | None = Field(
        None, gt=0, description="of the GPU, for each graph of a model; default: all of it"
    )

    max_batch: int = Field(32, ge=1, le=256, description="rows that run through the model at once")
    queue_rows: int = Field(
        2048, ge=1, description="rows taken in and not yet answered; beyond it 503"
    )
    queue_bytes: int = Field(
        512 * MEBIBYTE, ge=1, description="bytes taken in and not yet answered; beyond it 503"
    )
    queue_seconds: float = Field(
        4.0, gt=0, description="a request may have to wait this long for its turn; beyond it 503"
    )
    max_images: int = Field(4096, ge=1, description="images in one request")
    max_body_bytes: int = Field(64 * MEBIBYTE, ge=1, description="bytes of one request's body")
    max_pixels: int = Field(MAX_PIXELS, ge=1, description="pixels of one image, before resizing")

    max_connections: int = Field(
        4096, ge=1, description="open connections; beyond it idle ones are closed, or 503"
    )

    memory_share: float = Field(
        0.9, gt=0, le=1, description="of the memory limit; beyond it new requests are 503"
    )

    timeout_seconds: float = Field(
        30.0, gt=0, description="from the body's last byte to the answer; beyond it 504"
    )
    header_seconds: float = Field(
        8.0, gt=0, description="for the header of a request; beyond it the connection is closed"
    )
    body_seconds: float = Field(
        30.0, gt=0, description="from the first byte of a request to the last; beyond it 408"
    )
    stall_seconds: float = Field(
        60.0, gt=0, description="one batch may run this long before the process counts as dead"
    )
    drain_seconds: float = Field(
        0.0, ge=0, description="after SIGTERM: unready, still serving, before the port closes"
    )
    grace_seconds: float = Field(
        25.0, gt=0, description="after the port closes: time for requests in flight"
    )

    api_keys_file: Path | None = Field(
        None, description="SHA-256 digests of the keys that may ask, one a line; none: anyone may"
    )

    poll_seconds: float = Field(5.0, gt=0, description="between two looks at the registry")
    trial_seconds: float = Field(
        120.0, gt=0, description="for a new version to load in a process of its own; else refused"
    )
    cache: Path = Field(
        default_factory=lambda: Path.home() / ".cache" / "handful",
        description="where bundles from the registry are kept",
    )

    log_format: Literal["plain", "json"] = Field("plain", description="plain or json, one a line")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="least level"
    )

    @property
    def host_names(self) -> list[str]:
        """The names in `hosts`, in lower case."""
        names = [name.strip().lower() for name in (self.hosts or "").split(",")]
        return [name for name in names if name]

    @property
    def from_registry(self) -> bool:
        """Whether `model` names a registered model; otherwise it is a folder."""
        return self.model.startswith(REGISTRY_SCHEME)

    def window(self, row_bytes: int) -> int:
        """Rows of `row_bytes` bytes that a large request is cut into: two batches, at most 16 MiB.

        One window is decoded while the one before it is in the queue.
        """
        return max(1, min(2 * self.max_batch, 16 * MEBIBYTE // row_bytes))

    @model_validator(mode="after")
    def _room_for_one_request(self) -> Self:
        least = 4 * self.max_batch  # two windows
        if self.queue_rows < least:
            raise ValueError(
                f"queue_rows {self.queue_rows} leaves no room for one large request; "
                f"set HANDFUL_QUEUE_ROWS to at least {least}, 4 x HANDFUL_MAX_BATCH"
            )
        # a body, what is cut out of it, and two windows of pixels
        least = 2 * self.max_body_bytes + 32 * MEBIBYTE
        if self.queue_bytes < least:
            raise ValueError(
                f"queue_bytes {self.queue_bytes} leaves no room for one large body; set "
                f"HANDFUL_QUEUE_BYTES to at least {least}, or HANDFUL_MAX_BODY_BYTES to less"
            )
        return self

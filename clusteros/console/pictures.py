"""Files of jobs that are pictures, made fit to be shown: what a job wrote is decoded here and sent as a fresh PNG or JPEG, never
as the bytes that the job chose, so that nothing of it can act in the browser."""

from __future__ import annotations

import io
from typing import BinaryIO

from PIL import Image, UnidentifiedImageError

from clusteros.core.problems import Problem

KINDS = (".png", ".jpg", ".jpeg", ".gif", ".bmp", ".webp", ".pgm", ".ppm", ".pbm")
FORMATS = ("PNG", "JPEG", "GIF", "BMP", "WEBP", "PPM")
MAX_BYTES = 32 << 20
MAX_PIXELS = 40_000_000
SIDE = 1600
SMALL_SIDE = 320


def may_be_picture(path: str, size_bytes: int) -> bool:
    return path.lower().endswith(KINDS) and size_bytes <= MAX_BYTES


def as_png(file: BinaryIO, *, small: bool) -> bytes:
    """The picture, not larger than a screen. Problem UNSUPPORTED when it is none."""
    try:
        with Image.open(file, formats=FORMATS) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                raise Problem("UNSUPPORTED", "the picture is too large to be shown: download it")
            side = SMALL_SIDE if small else SIDE
            picture.thumbnail((side, side))
            out = io.BytesIO()
            picture.convert("RGBA" if picture.mode in ("P", "LA", "PA", "RGBA") else "RGB").save(out, "PNG")
    except (UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError) as fault:
        raise Problem("UNSUPPORTED", "this is not a picture that can be shown: download it") from fault
    return out.getvalue()

"""Draws the plate that `heat` reads: python examples/heat/plate.py obstacles.pgm (needs Pillow; the result is in the repository)."""

import sys

from PIL import Image, ImageDraw, ImageFont

CONDUCTS, INSULATES, HOT, COLD = 128, 0, 255, 200


def draw_plate(width: int = 384, height: int = 192) -> Image.Image:
    """The plate as a grey image of `height` x `width` pixels: a maze of fins between a hot and a cold rail, and the name."""
    image = Image.new("L", (width, height), CONDUCTS)
    draw = ImageDraw.Draw(image)
    draw.rectangle([0, 0, width, 5], fill=HOT)
    draw.rectangle([0, height - 6, width, height], fill=COLD)
    for k in range(7):
        top = 24 if k % 2 else 44
        draw.rectangle([30 + k * 52, top, 35 + k * 52, top + 118], fill=INSULATES)
    for x, y, r in ((60, 60, 9), (164, 130, 12), (268, 70, 10), (340, 140, 8)):
        draw.ellipse([x - r, y - r, x + r, y + r], fill=HOT)
        draw.ellipse([x - r // 2, y - r // 2, x + r // 2, y + r // 2], fill=INSULATES)
    draw.text((112, 84), "ClusterOS", fill=HOT, font=ImageFont.load_default(size=30))
    return image


if __name__ == "__main__":
    draw_plate().save(sys.argv[1])

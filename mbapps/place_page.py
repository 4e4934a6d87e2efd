"""A page on where one photo was taken: the photo, a large map of the world, and what its colours mean."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from mbapps.geo.distance import great_circle_km
from mbapps.geo.worldmap import map_points

from .images import UInt8Image, resize
from .lettering import font
from .near_map import draw_near, reach_km
from .place_map import HEAT, LIKE, MARK, RING, TRUTH, draw_map
from .place_prediction import FARTHEST_KM, Place, degrees_text

MAP_WIDTH = 1280  # px
NEAR = 320  # px of each side of the map of the surroundings
PHOTO_WIDTH = 960  # px at most; the photo is as high as the map where its shape allows
GAP, LINE = 16, 34  # px
TITLE, SMALL = 25, 17  # px of letters
PAPER, INK, FAINT = (18, 20, 24), (240, 240, 240), (170, 176, 184)


def draw_page(
    image: UInt8Image, place: Place, truth: tuple[float, float] | None = None, *, near: bool = True
) -> UInt8Image:
    """Draw a photo beside the map of its answer, with the answer in words above and a legend below.

    In a lower corner of the map, where sea is, lies a map of the answer's surroundings, if there is something in them
    to see.

    Args:
        image: RGB [H, W, 3] of any size.
        place: the answer.
        truth: latitude and longitude, degrees, where they are known.
        near: show the surroundings, with cities by name; False for a model that may tell countries alone.
    """
    height = MAP_WIDTH // 2
    scale = min(PHOTO_WIDTH / image.shape[1], height / image.shape[0])
    photo = Image.fromarray(resize(image, *(max(1, round(side * scale)) for side in image.shape[:2])))
    width = 3 * GAP + photo.width + MAP_WIDTH
    page = Image.new("RGB", (width, height + 3 * GAP + 2 * LINE), PAPER)
    pen = ImageDraw.Draw(page)
    pen.text((GAP, GAP), place.text, INK, font=font(TITLE))
    top = GAP + LINE
    page.paste(photo, (GAP, top + (height - photo.height) // 2))
    left = 2 * GAP + photo.width
    page.paste(Image.fromarray(draw_map(place, MAP_WIDTH, truth)), (left, top))
    if near and (reach := reach_km(place, truth)) is not None:
        around = Image.fromarray(draw_near(place, NEAR, reach, truth))
        page.paste(around, (left + _free_side(place, truth), top + height - NEAR))
    _legend(pen, (left, top + height + GAP), place, truth)
    return np.asarray(page)


def _free_side(place: Place, truth: tuple[float, float] | None) -> int:
    """Left edge, px, of the map of the surroundings: at the left, unless it would hide answer or truth there."""
    lat, lon = np.transpose([(place.lat, place.lon), *([truth] if truth else [])])
    points = map_points(lat, lon, MAP_WIDTH)
    hidden = (points[:, 0] < NEAR + GAP) & (points[:, 1] > MAP_WIDTH // 2 - NEAR - GAP)
    return MAP_WIDTH - NEAR if hidden.any() else 0


def _legend(
    pen: ImageDraw.ImageDraw, at: tuple[float, float], place: Place, truth: tuple[float, float] | None
) -> None:
    letters = font(SMALL)
    left, top = at
    for colour, text in legend(place, truth):
        pen.ellipse((left, top + 5, left + 12, top + 17), fill=colour)
        pen.text((left + 19, top), text, FAINT, font=letters)
        left += 19 + letters.getlength(text) + 2 * GAP


def legend(place: Place, truth: tuple[float, float] | None) -> list[tuple[tuple[int, int, int], str]]:
    """The colours of a map, each with what it means; only of what is on this one."""
    rows = [(MARK, "answer")]
    if place.radius_km is not None and place.radius_km < FARTHEST_KM:
        far = place.radius_km > FARTHEST_KM / 2
        rows.append((RING, "its radius: all but what is ringed" if far else "its radius"))
    if place.probabilities is not None:
        rows.append((HEAT, "probable cells"))
    if place.neighbours is not None:
        rows.append((LIKE, f"{len(place.neighbours.ids)} photos like it"))
    if truth is not None:
        km = float(great_circle_km(place.lat, place.lon, *truth))
        rows.append((TRUTH, f"truth {degrees_text(*truth)}, {km:,.{0 if km >= 10 else 1}f} km away"))
    return rows

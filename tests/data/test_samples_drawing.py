"""The pictures of sample clips, against values known in closed form."""

import math
from itertools import product

import numpy as np
import pytest

from reelmill.config import Samples
from reelmill.data.samples import CANONICAL, Combination, grid
from reelmill.data.samples.drawing import Scene, draw, signed_distance
from reelmill.data.samples.scene import HUES_DEG, canonical_scene, check_drawable, random_scene
from reelmill.errors import UserError

SETTINGS = Samples(
    seed=0,
    num_train_clips=300,
    num_validation_clips=40,
    num_test_clips=80,
    num_frames=17,
    resolution_px=64,
    fps=8,
    shapes=["circle", "square", "triangle", "line"],
    colors=["red", "green", "blue", "yellow", "magenta", "cyan", "white", "orange"],
    motions=["right", "left", "down", "up", "expanding", "shrinking", "clockwise", "counterclockwise"],
    size_range=(0.28, 0.46),
    line_length_range=(0.4, 0.58),
    travel_range=(0.3, 0.55),
    growth_range=(1.8, 2.8),
    rotation_range_deg=(70, 150),
    rotation_weight=1,
    background_range=(0, 70),
    test_share=0.22,
    validation_share=0.1,
)
SHAPES = ("circle", "square", "triangle", "line")
SYMMETRY = {"line": 2, "triangle": 3, "square": 4}


def still(shape: str, extent_px: float, angle_rad: float = 0.0, center=(32.3, 30.9)) -> Scene:
    return Scene(
        shape=shape,
        aspect=5.0,
        rgb=np.array([200.0, 100.0, 0.0]),
        extents_px=np.array([extent_px]),
        angles_rad=np.array([angle_rad]),
        centers_px=np.array([center]),
        background=(10.0, 30.0),
        background_angle_rad=0.0,
        side_px=64,
    )


def coverage(scene: Scene) -> np.ndarray:
    return np.clip(0.5 - signed_distance(scene).astype(np.float64), 0, 1)


def centroids(cover: np.ndarray) -> np.ndarray:
    pixels = np.arange(cover.shape[1]) + 0.5
    x, y = (cover * pixels).sum(axis=(1, 2)), (cover * pixels[:, None]).sum(axis=(1, 2))
    return np.stack([x, y], axis=-1) / cover.sum(axis=(1, 2))[:, None]


def turns(scene: Scene) -> np.ndarray:
    """Angle from the first frame: under a turn by a, the moment of (x + iy)^n turns by n a."""
    cover, n = coverage(scene), SYMMETRY[scene.shape]
    pixels = np.arange(scene.side_px) + 0.5
    z = (pixels - scene.centers_px[:, :1])[:, None, :] + 1j * (pixels - scene.centers_px[:, 1:])[:, :, None]
    phases = np.unwrap(np.angle((cover * z**n).sum(axis=(1, 2))))
    return (phases - phases[0]) / n


def some_scenes(shape: str, motion: str, count: int = 8) -> list[Scene]:
    return [random_scene(SETTINGS, Combination(shape, "red", motion), np.random.default_rng(i)) for i in range(count)]


@pytest.mark.parametrize(
    ("shape", "area"), [("circle", math.pi / 4), ("square", 1.0), ("triangle", math.sqrt(3) / 4), ("line", 1 / 5)]
)
def test_shape_covers_its_area_about_its_centre(shape, area):
    for angle in (0.0, 0.3, 1.1):
        cover = coverage(still(shape, 30.0, angle))
        assert cover.sum() == pytest.approx(area * 30.0**2, rel=0.005)
        np.testing.assert_allclose(centroids(cover)[0], (32.3, 30.9), atol=0.06)


def test_triangle_points_up_on_the_screen():
    rows = coverage(still("triangle", 30.0))[0].sum(axis=1)
    covered = rows[rows > 0.5]
    assert covered[0] < 3 and covered[-2] > 27


def test_signed_distance_of_a_circle_is_exact():
    distance = signed_distance(still("circle", 20.0))[0]
    assert distance[10, 50] == pytest.approx(math.hypot(50.5 - 32.3, 10.5 - 30.9) - 10.0, abs=1e-4)


def test_draw_blends_the_colour_over_a_linear_background():
    frame = draw(still("square", 20.0))[0]
    assert frame[31, 32].tolist() == [200, 100, 0]
    expected = np.rint(10 + 20 * (np.arange(64) + 0.5) / 64)
    np.testing.assert_array_equal(frame[0], np.stack([expected] * 3, axis=-1))
    edge = draw(still("square", 20.0, center=(32.25, 32.0)))[0, 32, 22]  # three quarters covered
    background = 10 + 20 * 22.5 / 64
    np.testing.assert_allclose(edge, background + 0.75 * (np.array([200, 100, 0]) - background), atol=0.51)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    ("motion", "direction"), [("right", (1, 0)), ("left", (-1, 0)), ("down", (0, 1)), ("up", (0, -1))]
)
def test_translation_moves_the_centroid_by_the_travel_and_nothing_else(shape, motion, direction):
    for scene in some_scenes(shape, motion):
        cover = coverage(scene)
        moved = centroids(cover)
        way = moved[-1] - moved[0]
        travel = way @ direction
        assert 0.3 * 64 - 0.1 <= travel <= 0.55 * 64 + 0.1
        np.testing.assert_allclose(way, travel * np.array(direction), atol=0.1)
        assert (np.diff(moved @ direction) > 0).all()
        np.testing.assert_allclose(cover.sum(axis=(1, 2)), cover[0].sum(), rtol=0.02)


@pytest.mark.parametrize("shape", SHAPES)
def test_size_change_scales_the_area_by_the_square_of_the_ratio(shape):
    for motion in ("expanding", "shrinking"):
        for scene in some_scenes(shape, motion):
            cover = coverage(scene)
            area = cover.sum(axis=(1, 2))
            ratio = scene.extents_px[-1] / scene.extents_px[0]
            assert 1.8 <= (ratio if motion == "expanding" else 1 / ratio) <= 2.8
            assert area[-1] / area[0] == pytest.approx(ratio**2, rel=0.03)
            np.testing.assert_allclose(centroids(cover), scene.centers_px, atol=0.15)


@pytest.mark.parametrize("shape", ["square", "triangle", "line"])
@pytest.mark.parametrize(("motion", "sign"), [("clockwise", 1), ("counterclockwise", -1)])
def test_rotation_turns_by_the_angle_in_place(shape, motion, sign):
    for scene in some_scenes(shape, motion):
        turned = sign * turns(scene)  # y points down: a positive angle is clockwise on the screen
        assert math.radians(70) - 0.03 <= turned[-1] <= math.radians(150) + 0.03
        np.testing.assert_allclose(turned, np.abs(scene.angles_rad - scene.angles_rad[0]), atol=0.03)
        assert np.diff(turned).max() < math.pi / SYMMETRY[shape] / 2  # well below half the symmetry angle
        np.testing.assert_allclose(centroids(coverage(scene)), np.tile(scene.centers_px[:1], (17, 1)), atol=0.15)


def test_line_is_long_and_thin():
    for motion in ("right", "clockwise", "expanding"):
        for scene in some_scenes("line", motion, 40):
            assert 4 <= scene.aspect <= 5
            if motion != "expanding":
                assert scene.extents_px[0] / scene.aspect >= 3.0


def test_shapes_stay_upright_and_lines_level_unless_they_rotate():
    for shape, motion in product(("circle", "square", "triangle", "line"), ("right", "up", "expanding")):
        assert all((scene.angles_rad == 0).all() for scene in some_scenes(shape, motion, 3))


def test_every_combination_stays_inside_the_frame():
    for index, combination in enumerate(grid(SETTINGS)):
        for settings in (SETTINGS, SETTINGS.model_copy(update={"resolution_px": 32})):
            distance = signed_distance(random_scene(settings, combination, np.random.default_rng(index)))
            border = np.ones(distance.shape[1:], dtype=bool)
            border[1:-1, 1:-1] = False
            assert distance[:, border].min() >= 0.5, combination


def test_positions_fill_the_room_along_and_across_the_motion():
    random = np.random.default_rng(0)
    scenes = [random_scene(SETTINGS, Combination("circle", "red", "right"), random) for _ in range(300)]
    radius = np.array([scene.extents_px[0] / 2 for scene in scenes])
    start = np.array([scene.centers_px[0] for scene in scenes])
    travel = np.array([scene.centers_px[-1, 0] - scene.centers_px[0, 0] for scene in scenes])
    low = 1.5 + radius
    share = (start - low[:, None]) / np.stack([61 - 2 * radius - travel, 61 - 2 * radius], axis=-1)
    assert share.min() >= 0 and share.max() <= 1
    np.testing.assert_allclose(
        np.quantile(share, [0.1, 0.5, 0.9], axis=0), [[0.1] * 2, [0.5] * 2, [0.9] * 2], atol=0.08
    )


def test_colours_stay_nearest_to_their_name():
    for color, hue in HUES_DEG.items():
        for index in range(30):
            rgb = random_scene(SETTINGS, Combination("circle", color, "up"), np.random.default_rng(index)).rgb
            high, low = rgb.max(), rgb.min()
            angle = math.degrees(math.atan2(math.sqrt(3) * (rgb[1] - rgb[2]), 2 * rgb[0] - rgb[1] - rgb[2])) % 360
            distance = {name: abs((angle - other + 180) % 360 - 180) for name, other in HUES_DEG.items()}
            assert min(distance, key=distance.get) == color, (color, hue, angle)
            assert high >= 0.8 * 255 and low <= 0.15 * 255 + 1e-9


def test_canonical_clips_are_centred_on_black():
    circle, square, line = (canonical_scene(SETTINGS, combination) for combination in CANONICAL)
    assert centroids(coverage(circle)).mean(axis=0) == pytest.approx([32, 32], abs=0.02)
    np.testing.assert_allclose(np.diff(centroids(coverage(circle))[:, 0]), 0.425 * 64 / 16, atol=0.05)
    np.testing.assert_allclose(centroids(coverage(square)), 32, atol=1e-3)
    assert (np.diff(coverage(square).sum(axis=(1, 2))) > 0).all()
    np.testing.assert_allclose(turns(line), np.radians(110) * np.arange(17) / 16, atol=0.02)
    for scene, channel in ((circle, 1), (square, 2), (line, 0)):
        frames = draw(scene)
        assert frames.max(axis=(0, 1, 2)).argmax() == channel and frames[:, 0].max() == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"resolution_px": 65}, "resolution_px: 65 is odd .* take 64 or 66"),
        ({"travel_range": (0.45, 0.6)}, r"travel_range: .* at most at 0\.355"),
        ({"size_range": (0.3, 0.7), "travel_range": (0.1, 0.2)}, r"size_range: .* at most at 0\.673"),
        ({"growth_range": (1.0, 2.0)}, "growth_range: .* begin at 1.2"),
        ({"background_range": (0, 200)}, "background_range: .* within 0 and 110"),
        ({"num_frames": 5}, "rotation_range_deg: over 5 frames, .* at most at 85"),
        ({"line_length_range": (0, 0.5)}, "line_length_range: a length must be above 0"),
    ],
)
def test_settings_that_cannot_be_drawn_name_the_rule(changes, message):
    with pytest.raises(UserError, match=message):
        check_drawable(SETTINGS.model_copy(update=changes))

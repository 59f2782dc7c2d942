"""Images made by formula, each with the factors it was made from.

No photograph, digit or garment is involved. An image is a textured background, one figure in front of it (a filled or
outlined radial contour, or a few Bezier strokes) and the faults of a camera: blur, low resolution, noise. Whoever makes
the image knows every factor, so a network can be taught all of them at once, which is what makes its features useful
for tasks it has never seen.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

FAMILIES = 100
"""Number of contour families; the stroke figures form one more class."""
TEXTURES = 5
HARMONICS = 6
ANGLES = 16
OCCUPANCY = 10
"""Side of the occupancy grid that the network has to predict."""
STROKES = 3
POINTS = 14


@dataclass(frozen=True)
class Factors:
    """What a batch of B images was made from.

    Attributes:
        continuous: [B, C] all real-valued factors, roughly in -1..1.
        continuous_mask: [B, C] 1 where the factor means something for this image (radii do not, for strokes).
        occupancy: [B, OCCUPANCY**2] share of each cell that the figure covers, 0..1.
        cover: [B, size, size] share of each pixel that the figure covers, 0..1.
        family: [B] contour family, FAMILIES for strokes.
        texture: [B] texture of the background.
        inner_texture: [B] texture of the figure.
    """

    continuous: Tensor
    continuous_mask: Tensor
    occupancy: Tensor
    cover: Tensor
    family: Tensor
    texture: Tensor
    inner_texture: Tensor


class ImageMaker:
    """Draws batches of square RGB images from one seed.

    Args:
        size: side of an image in pixels.
        seed: of the families and of every batch.
    """

    def __init__(self, size: int, seed: int) -> None:
        self.size = size
        self.seed = seed
        self.random = torch.Generator().manual_seed(seed)
        axis = (torch.arange(size) + 0.5) / size * 2 - 1
        self.y, self.x = torch.meshgrid(axis, axis, indexing="ij")
        decay = 0.42 / torch.arange(1, HARMONICS + 1).sqrt()
        self.family_amplitude = self._uniform(FAMILIES, HARMONICS) * decay
        self.family_phase = self._uniform(FAMILIES, HARMONICS) * 2 * math.pi

    def batch(self, count: int, number: int) -> tuple[Tensor, Factors]:
        """Draws images [count, 3, size, size] in -1..1 and their factors; the same ones for the same number."""
        self.random.manual_seed(self.seed * 1_000_003 + number + 1)
        cover, contour_factors, family, radii = self._contours(count)
        is_stroke = self._chance(count, 0.4)
        strokes, drawn_factors = self._strokes(int(is_stroke.sum()))
        cover[is_stroke] = strokes
        stroke_factors = torch.zeros(count, drawn_factors.shape[1])
        stroke_factors[is_stroke] = drawn_factors
        background, background_factors, texture = self._textured(count)
        figure, figure_factors, inner_texture = self._textured(count)
        background, figure = self._apart(background, figure)
        images = self._camera(background + (figure - background) * cover[:, None])
        flag = is_stroke.float()[:, None]
        parts = [
            (radii, 1 - flag),
            (contour_factors, 1 - flag),
            (stroke_factors, flag),
            (background_factors, torch.ones_like(flag)),
            (figure_factors, torch.ones_like(flag)),
            (flag * 2 - 1, torch.ones_like(flag)),
        ]
        factors = Factors(
            continuous=torch.cat([value for value, _ in parts], 1),
            continuous_mask=torch.cat([mask.expand_as(value) for value, mask in parts], 1),
            occupancy=functional.adaptive_avg_pool2d(cover[:, None], OCCUPANCY).flatten(1),
            cover=cover,
            family=torch.where(is_stroke, torch.full_like(family, FAMILIES), family),
            texture=texture,
            inner_texture=inner_texture,
        )
        return images, factors

    def _uniform(self, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        return torch.rand(*shape, generator=self.random) * (high - low) + low

    def _chance(self, count: int, probability: float) -> Tensor:
        return self._uniform(count) < probability

    def _contours(self, count: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Radial contours r(t) = r0 (1 + sum_k a_k cos(k t + p_k)), filled, outlined or ringed."""
        family = torch.randint(FAMILIES, (count,), generator=self.random)
        amplitude = self.family_amplitude[family] * self._uniform(count, HARMONICS, low=0.7, high=1.3)
        phase = self.family_phase[family] + self._uniform(count, HARMONICS, low=-0.35, high=0.35)
        symmetric = self._chance(count, 0.3)[:, None]
        phase = torch.where(symmetric, torch.where(phase.cos() > 0, 0.0, math.pi), phase)
        radius = self._uniform(count, low=0.3, high=0.75)
        aspect = self._uniform(count, low=-0.5, high=0.5)
        turn = torch.where(symmetric[:, 0], math.pi / 2, self._uniform(count, high=2 * math.pi))
        centre = self._uniform(count, 2, low=-0.3, high=0.3)
        across, along = self._turned(centre, turn)
        across, along = across * (aspect / 2).exp()[:, None, None], along * (-aspect / 2).exp()[:, None, None]
        angle = torch.atan2(along, across)
        distance = (across.square() + along.square()).sqrt()
        edge = radius[:, None, None] * self._profile(angle, amplitude, phase)
        inside = edge - distance
        cover = self._soft(inside)
        outlined, thickness = self._chance(count, 0.3), self._uniform(count, low=0.06, high=0.2)
        outline = self._soft(thickness[:, None, None] - inside.abs())
        hole, hole_size = self._chance(count, 0.25), self._uniform(count, low=0.3, high=0.65)
        ringed = cover * (1 - self._soft(edge * hole_size[:, None, None] - distance))
        cover = torch.where(hole[:, None, None], ringed, cover)
        cover = torch.where(outlined[:, None, None], outline, cover)
        compass = torch.arange(ANGLES) / ANGLES * 2 * math.pi
        local = compass[None] - turn[:, None]
        squeezed = torch.atan2(local.sin() * (-aspect / 2).exp()[:, None], local.cos() * (aspect / 2).exp()[:, None])
        stretch = (
            (local.cos() * (aspect / 2).exp()[:, None]).square() + (local.sin() * (-aspect / 2).exp()[:, None]).square()
        ).sqrt()
        profile = self._profile(squeezed[:, :, None], amplitude, phase)[:, :, 0]
        radii = radius[:, None] * profile / stretch * 2 - 1
        factors = torch.stack(
            [
                centre[:, 0] * 3,
                centre[:, 1] * 3,
                aspect * 2,
                radius * 4 - 2,
                outlined.float() * 2 - 1,
                (hole & ~outlined).float() * 2 - 1,
                torch.where(outlined, thickness * 14 - 2, 0.0),
                torch.where(hole & ~outlined, hole_size * 5 - 2.4, 0.0),
                (turn * 2).cos(),
                (turn * 2).sin(),
            ],
            1,
        )
        return cover, factors, family, radii

    def _profile(self, angle: Tensor, amplitude: Tensor, phase: Tensor) -> Tensor:
        """1 + sum_k a_k cos(k angle + p_k), never below 0.15; angle [B, H, W], amplitude and phase [B, HARMONICS]."""
        total = torch.ones_like(angle)
        for harmonic in range(HARMONICS):
            wave = (angle * (harmonic + 1) + phase[:, harmonic, None, None]).cos()
            total = total + amplitude[:, harmonic, None, None] * wave
        return total.clamp_min(0.15)

    def _strokes(self, count: int) -> tuple[Tensor, Tensor]:
        """One to three joined or free quadratic Bezier curves of one thickness; some joined to a closed loop."""
        knots = self._uniform(count, STROKES, 3, 2, low=-0.8, high=0.8)
        joined = self._chance(count, 0.6)
        starts = torch.where(joined[:, None, None], knots[:, :-1, 2], knots[:, 1:, 0])
        knots[:, 1:, 0] = starts
        closed = self._chance(count, 0.25)
        number = torch.randint(1, STROKES + 1, (count,), generator=self.random)
        last = knots[torch.arange(count), number - 1, 2]
        ends = torch.where(closed[:, None], knots[:, 0, 0], last)
        knots[torch.arange(count), number - 1, 2] = ends
        knots[:, :, 1] += (knots[:, :, 1] - (knots[:, :, 0] + knots[:, :, 2]) / 2) * 0.5
        thickness = self._uniform(count, low=0.05, high=0.2)
        time = torch.linspace(0, 1, POINTS)
        weights = torch.stack([(1 - time).square(), 2 * time * (1 - time), time.square()], 1)
        points = torch.einsum("pk,bskc->bspc", weights, knots)
        begin, step = points[:, :, :-1], points[:, :, 1:] - points[:, :, :-1]
        used = torch.arange(STROKES)[None] < number[:, None]
        begin = begin + torch.where(used, 0.0, 9.0)[:, :, None, None]
        pixels = torch.stack([self.x, self.y], -1).reshape(-1, 2)
        nearest = self._distance_to_segments(pixels, begin.flatten(1, 2), step.flatten(1, 2))
        cover = self._soft(thickness[:, None, None] - nearest.reshape(count, self.size, self.size))
        ends_factor = torch.where(used[:, :, None, None], knots, 0.0).flatten(1)
        factors = torch.cat(
            [
                ends_factor,
                (number - 2).float()[:, None],
                joined.float()[:, None] * 2 - 1,
                closed.float()[:, None] * 2 - 1,
                thickness[:, None] * 13 - 1.6,
            ],
            1,
        )
        return cover, factors

    @staticmethod
    def _distance_to_segments(pixels: Tensor, begin: Tensor, step: Tensor) -> Tensor:
        """Distance of pixels [P, 2] to the nearest of the segments [B, S, 2] of each image: [B, P]."""
        length = step.square().sum(-1).clamp_min(1e-6)
        reach = pixels @ step.transpose(1, 2) - (begin * step).sum(-1)[:, None]
        share = (reach / length[:, None]).clamp_(0, 1)
        squared = torch.zeros_like(share)
        for axis in range(2):
            gap = pixels[None, :, axis, None] - begin[:, None, :, axis] - share * step[:, None, :, axis]
            squared += gap.square_()
        return squared.amin(-1).sqrt()

    def _textured(self, count: int) -> tuple[Tensor, Tensor, Tensor]:
        """Two colours mixed by a plain, gradient, stripe, check or blob pattern: [B, 3, size, size]."""
        kind = torch.multinomial(torch.tensor([8.0, 2, 2, 1, 1]), count, replacement=True, generator=self.random)
        turn = self._uniform(count, high=math.pi)
        frequency = self._uniform(count, low=1.5, high=6.0)
        shift = self._uniform(count, 2, high=2 * math.pi)
        across, along = self._turned(torch.zeros(count, 2), turn)
        first = (across * frequency[:, None, None] * math.pi + shift[:, 0, None, None]).sin()
        second = (along * frequency[:, None, None] * math.pi + shift[:, 1, None, None]).sin()
        patterns = torch.stack(
            [torch.zeros_like(first), across, (first * 3).tanh(), (first * second * 5).tanh(), first + second], 1
        )
        pattern = patterns[torch.arange(count), kind][:, None]
        base = self._uniform(count, 3, low=-1, high=1)
        contrast = self._uniform(count, 3, low=-0.5, high=0.5)
        patterned = (kind > 0).float()[:, None]
        wavy = (kind > 1).float()[:, None]
        factors = torch.cat(
            [
                base,
                contrast * patterned * 2,
                (frequency[:, None] - 3.75) / 2.25 * wavy,
                (turn * 2).cos()[:, None] * patterned,
                (turn * 2).sin()[:, None] * patterned,
            ],
            1,
        )
        return base[:, :, None, None] + contrast[:, :, None, None] * pattern, factors, kind

    def _apart(self, background: Tensor, figure: Tensor) -> tuple[Tensor, Tensor]:
        """Takes the colour from half of the images, and gives most enough contrast to show the figure."""
        gray = self._chance(len(figure), 0.5)[:, None, None, None]
        background = torch.where(gray, background.mean(1, keepdim=True), background)
        figure = torch.where(gray, figure.mean(1, keepdim=True), figure)
        gap = (figure - background).mean((2, 3), keepdim=True)
        direction = torch.where(gap < 0, -1.0, 1.0)
        away = self._uniform(len(figure), 1, 1, 1, low=0.1, high=1.2)
        return background, figure + torch.where(gray, direction[:, :1], direction) * away

    def _camera(self, images: Tensor) -> Tensor:
        """Low resolution for a third of the images, blur for another, then noise for all."""
        resized = []
        for side in (8, 14, 20):
            small = functional.adaptive_avg_pool2d(images, side)
            resized.append(functional.interpolate(small, self.size, mode="bicubic", align_corners=False))
        blurred = functional.avg_pool2d(functional.pad(images, (1, 1, 1, 1), mode="replicate"), 3, 1)
        choices = torch.stack([images, blurred, *resized], 1)
        odds = torch.tensor([3.0, 2, 1, 1, 1])
        choice = torch.multinomial(odds, len(images), replacement=True, generator=self.random)
        images = choices[torch.arange(len(images)), choice]
        noise = torch.randn(images.shape, generator=self.random)
        images = images + noise * self._uniform(len(images), 1, 1, 1, high=0.08)
        return images.clamp(-1, 1)

    def _turned(self, centre: Tensor, turn: Tensor) -> tuple[Tensor, Tensor]:
        """Pixel coordinates [B, size, size] relative to a centre [B, 2], turned by an angle [B]."""
        x = self.x - centre[:, 0, None, None]
        y = self.y - centre[:, 1, None, None]
        cos, sin = turn.cos()[:, None, None], turn.sin()[:, None, None]
        return x * cos + y * sin, y * cos - x * sin

    def _soft(self, inside: Tensor) -> Tensor:
        """0..1 from a signed distance, one pixel wide."""
        return (inside * self.size / 2 + 0.5).clamp(0, 1)

"""A training step of ours beside one written the way diffusers' train_cogvideox_lora.py does it: time, peak memory, and how much
of the rate of large matrix products it comes to.

Run: python -m benchmarks.step [timed steps, 6 by default]. Same transformer, batch, precision and number of clips. That script
encodes each batch's captions in the loop, padded to 226 tokens, and holds all latents in memory; ours maps latents that are
encoded once. Ours stands twice: with the text encoder trained along, which is the default, and with a frozen one as theirs is,
whose embeddings were encoded once. Then a LoRA of the same transformer, both ways. Each in processes of its own, in turns; medians.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

import torch
from diffusers import CogVideoXDDIMScheduler

from benchmarks.rate import MATRIX_SIDE, flop_of, matmul_rate
from benchmarks.workspace import ROOT
from reelmill.compute import autocast, choose_attention, generator
from reelmill.config import Params, load_params
from reelmill.data.latents import BatchOrder, LatentClips, LatentsInfo
from reelmill.data.samples.captions import caption, num_phrasings
from reelmill.models import autoencoder
from reelmill.models.cogvideox import build_transformer, rotary_embedding
from reelmill.models.families import FAMILIES
from reelmill.models.lora import add_adapter
from reelmill.models.text import build_text_encoder, fit_tokenizer, token_ids
from reelmill.training.denoiser import Denoiser
from reelmill.training.ema import averages_of
from reelmill.training.optimizers import Optimizers
from reelmill.training.processes import ALONE
from reelmill.training.run import Run
from reelmill.training.step import optimizer_step

ROUNDS, WARM_UP = 2, 2
VARIANTS = {  # with what each is compared
    "theirs": ("all weights, as train_cogvideox_lora.py does it", "theirs"),
    "frozen": ("ours, frozen text encoder", "theirs"),
    "trained": ("ours, text encoder trained along", "theirs"),
    "lora-theirs": ("LoRA, as that script does it", "lora-theirs"),
    "lora": ("LoRA, ours", "lora-theirs"),
}


class Clips(LatentClips):
    """Random latents in a mapped file, with captions of the drawn samples."""

    def __init__(self, path: Path, shape: tuple[int, ...], count: int, texts: torch.Tensor, info: LatentsInfo):
        self.info, self.weights, self.texts = info, torch.ones(count, dtype=torch.float64), texts
        self.latents = torch.from_file(
            str(path), shared=True, size=count * torch.Size(shape).numel(), dtype=torch.half
        ).view(count, *shape)
        self.empty_text = {"text": texts[-1]}

    def __len__(self) -> int:
        return len(self.weights)

    def batch(
        self, indices: list[int], device: torch.device | str = "cpu"
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """See `LatentClips.batch`."""
        rows = [index % (len(self.texts) - 1) for index in indices]
        return torch.stack([self.latents[index] for index in indices]).float(), {"text": self.texts[rows]}


def main() -> None:
    """Print the table; or, given a variant, measure it."""
    if len(sys.argv) > 2:
        measure(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
        return
    steps = int(sys.argv[1]) if len(sys.argv) > 1 else 6
    params = load_params(ROOT / "presets/default.yaml")
    found: dict[str, list[dict]] = {name: [] for name in VARIANTS}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "latents.f16"
        torch.randn(params.samples.num_train_clips, *shape_of(params), generator=generator(0)).half().numpy().tofile(
            path
        )
        for _ in range(ROUNDS):
            for variant in VARIANTS:
                found[variant].append(child(variant, path, steps))
    print(
        f"{params.train.batch_size} clips of {'x'.join(map(str, shape_of(params)))} latents, {steps} steps, {ROUNDS} rounds"
    )
    seconds = {variant: median(row["seconds"] for row in rows) for variant, rows in found.items()}
    for variant, (name, other) in VARIANTS.items():
        peak, ratio = max(row["peak_mb"] for row in found[variant]), seconds[other] / seconds[variant]
        reached = median(row["gflop_s"] for row in found[variant])
        share = median(row["gflop_s"] / row["matmul_gflop_s"] for row in found[variant])
        print(
            f"  {name:46} {seconds[variant]:6.3f} s/step  {ratio:5.2f} times as fast  peak {peak:5.0f} MB  "
            f"{reached:4.0f} GFLOP/s, {share:.0%} of a product of {MATRIX_SIDE} x {MATRIX_SIDE}"
        )


def child(variant: str, path: Path, steps: int) -> dict:
    """One variant in a process of its own, for its peak memory."""
    command = [sys.executable, "-m", "benchmarks.step", variant, str(path), str(steps)]
    return json.loads(subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout)


def measure(variant: str, path: Path, steps: int) -> None:
    """Time steps; prints seconds a step, their share of the rate of large products, and the peak memory in MB."""
    params, lora = load_params(ROOT / "presets/default.yaml"), variant.startswith("lora")
    # Whole latents, as theirs are: a coarse step costs two fifths.
    unguided = params.train.guidance.model_copy(update={"share": 0.0})
    changes = {"coarse_share": 0.0, "guidance": unguided} | ({"optimizer": "adamw"} if lora else {})
    params = params.model_copy(update={"train": params.train.model_copy(update=changes)})
    step = theirs(params, path, lora) if "theirs" in variant else ours(params, path, variant)
    for number in range(WARM_UP):
        step(number)
    times = []
    for number in range(WARM_UP, WARM_UP + steps):
        start = time.monotonic()
        step(number)
        times.append(time.monotonic() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    gflop_s = flop_of(partial(step, WARM_UP + steps)) / median(times) / 1e9
    rate = matmul_rate(params.train.precision)
    print(json.dumps({"seconds": median(times), "peak_mb": peak, "gflop_s": gflop_s, "matmul_gflop_s": rate}))


def shape_of(params: Params) -> tuple[int, int, int, int]:
    """Latents of a clip, t c h w."""
    model = autoencoder.build(params.autoencoder, params.data.height_px, params.data.width_px)
    return FAMILIES["cogvideox"].latent_shape(
        model, params.data.num_frames, params.data.height_px, params.data.width_px
    )


def captions(params: Params) -> list[str]:
    """Of the drawn samples, in all phrasings."""
    phrasings = range(num_phrasings())
    samples = params.samples
    return [
        caption(s, c, m, p) for s in samples.shapes for c in samples.colors for m in samples.motions for p in phrasings
    ]


def ours(params: Params, path: Path, variant: str) -> Callable[[int], object]:
    """`optimizer_step` of a run on the default's shapes."""
    texts, trained = captions(params), variant == "trained"
    tokenizer = fit_tokenizer(texts, params.encode.vocabulary_size)
    encoder = build_text_encoder(params.model.text_encoder, len(tokenizer), 0).requires_grad_(trained)
    ids = token_ids(tokenizer, [*texts, ""], params.model.text_encoder.max_tokens)
    with torch.no_grad():
        text = ids.int() if trained else torch.cat([encoder(part)[0].half() for part in ids.split(64)])
    denoiser = Denoiser(
        FAMILIES["cogvideox"],
        transformer_of(params, variant == "lora"),
        encoder if trained else None,
        params.train.objective,
    )
    temporal = params.autoencoder.temporal_compression
    info = LatentsInfo(shape_of(params), 1.0, params.data.num_frames, temporal, "cogvideox", "", "", 0, "", "")
    clips = Clips(path, shape_of(params), params.samples.num_train_clips, text, info)
    named, settings = denoiser.parameters(), params.train
    choose_attention(torch.device("cpu"), settings.precision, denoiser.video_tokens(shape_of(params)))
    optimizers = Optimizers(
        named,
        settings.optimizer,
        settings.learning_rate,
        settings.adamw_learning_rate,
        rate_scales=denoiser.rate_scales(),
    )
    run = Run(
        params=params, clips=clips, order=BatchOrder(clips.weights, 0), held_out=None, accuracy=None, denoiser=denoiser, named=named,
        validated=None, predict=denoiser.predict, processes=ALONE, autoencoder=None, trained_text={}, frozen_text=None, optimizers=optimizers, checkpoints=None,
        average=averages_of(named, optimizers.parts, settings.ema_decay), directory=Path(), log=None, device=torch.device("cpu"),
    )  # fmt: skip
    return lambda number: optimizer_step(run, number)


def theirs(params: Params, path: Path, lora: bool) -> Callable[[int], object]:
    """Latents in memory, captions encoded in the step, v-prediction weighted by 1 / (1 - alpha), AdamW."""
    count, texts = params.samples.num_train_clips, captions(params)
    shape = shape_of(params)
    mapped = torch.from_file(str(path), size=count * torch.Size(shape).numel(), dtype=torch.half).view(count, *shape)
    latents = [row.float() for row in mapped]
    tokenizer = fit_tokenizer(texts, params.encode.vocabulary_size)
    encoder = build_text_encoder(params.model.text_encoder, len(tokenizer), 0).requires_grad_(False)
    transformer, scheduler = transformer_of(params, lora), CogVideoXDDIMScheduler(prediction_type="v_prediction")
    trained = [parameter for parameter in transformer.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=params.train.learning_rate)

    def step(number: int) -> None:
        indices = torch.randint(count, (params.train.batch_size,)).tolist()
        clean = FAMILIES["cogvideox"].whole_patches(transformer, torch.stack([latents[index] for index in indices]))
        prompts = [texts[index % len(texts)] for index in indices]
        ids = token_ids(tokenizer, prompts, params.model.text_encoder.max_tokens)
        with torch.no_grad():
            embeddings = encoder(ids)[0]
        noise, timesteps = torch.randn_like(clean), torch.randint(1000, (len(clean),))
        noisy = scheduler.add_noise(clean, noise, timesteps)
        with autocast(clean.device, params.train.precision):
            prediction = transformer(
                hidden_states=noisy,
                encoder_hidden_states=embeddings,
                timestep=timesteps,
                image_rotary_emb=rotary_embedding(transformer, noisy),
                return_dict=False,
            )[0]
        predicted = scheduler.get_velocity(prediction.float(), noisy, timesteps)
        weights = (1 / (1 - scheduler.alphas_cumprod[timesteps])).view(-1, 1, 1, 1, 1)
        (weights * (predicted - clean) ** 2).mean().backward()
        torch.nn.utils.clip_grad_norm_(trained, params.train.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()

    return step


def transformer_of(params: Params, lora: bool) -> torch.nn.Module:
    """The default's transformer, or it with an adapter that alone is trained."""
    temporal, width = params.autoencoder.temporal_compression, params.model.text_encoder.width
    made = build_transformer(params.model, shape_of(params), params.data.num_frames, temporal, width, 0)
    if lora:
        add_adapter(made, params.train.lora, FAMILIES["cogvideox"], 0)
    return made


if __name__ == "__main__":
    main()

"""The command line: reelmill generate | preset | experiment | record | ui."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from reelmill.errors import UserError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Captioned clips in, a text-to-video model with its evidence out.",
)


experiments = typer.Typer(no_args_is_help=True, help="Questions about settings, in folders of experiments/.")
app.add_typer(experiments, name="experiment")


def main() -> None:
    """Run a command; a user's fault is told in its own words, with status 1."""
    try:
        app()
    except UserError as error:
        sys.exit(f"reelmill: {error}")


@app.command()
def generate(
    prompt: Annotated[str, typer.Option(help="What the video shows.")],
    output: Annotated[Path, typer.Option(help="The MP4 to write.")],
    checkpoint: Annotated[Path | None, typer.Option(help="A pipeline's directory; models/pipeline by default.")] = None,
    num_frames: Annotated[int | None, typer.Option("--num-frames", "--num_frames", min=1, help="8k or 8k + 1.")] = None,
    resolution: Annotated[int | None, typer.Option(min=1, help="Both sides, in pixels.")] = None,
    steps: Annotated[int | None, typer.Option("--steps", "--num_inference_steps", min=1, help="Of sampling.")] = None,
    guidance_scale: Annotated[
        float | None, typer.Option("--guidance-scale", "--guidance_scale", min=1, help="1: none.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the noise.")] = 0,
    fps: Annotated[int | None, typer.Option(min=1, max=240, help="Frames a second of the MP4.")] = None,
) -> None:
    """Generate one video from a prompt. What is not given is as the pipeline was published."""
    from reelmill.workspace import prepare_environment

    prepare_environment()
    from reelmill.single import generate_one

    print(generate_one(prompt, output, checkpoint, num_frames, resolution, steps, guidance_scale, seed, fps))


@app.command()
def preset(
    name: Annotated[str, typer.Argument(help="The preset; without it they are listed.")] = "",
    force: Annotated[bool, typer.Option("--force", help="Replace settings of your own.")] = False,
) -> None:
    """Write the settings of a named preset to params.yaml."""
    from reelmill.presets import names, write_preset

    if not name:
        print("\n".join(names()))
        return
    write_preset(name, force=force)
    print(f"params.yaml: preset {name}")


@experiments.command("new")
def new_experiment(name: Annotated[str, typer.Argument(help="Of its folder in experiments/.")]) -> None:
    """Copy experiments/template to a new folder."""
    from reelmill.experiments import new_experiment

    target = new_experiment(name)
    print(f"{target}: write the question into README.md and the grid into experiment.yaml,")
    print(f"then run it: python -m flows.experiment {name}")


@app.command()
def record() -> None:
    """Tag the MLflow run of this workspace with dvc.lock's hash, and send what was not sent."""
    from reelmill import tracking
    from reelmill.config import load_params

    print(tracking.record(load_params()))


@app.command()
def ui(port: Annotated[int, typer.Option(min=0, max=65535, envvar="PORT", help="On 127.0.0.1.")] = 5000) -> None:
    """Show the experiments in MLflow's pages, on loopback."""
    from reelmill import tracking

    tracking.serve(port)


if __name__ == "__main__":
    main()

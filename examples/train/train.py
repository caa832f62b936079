"""Trains the model from the texts in `data/`, and writes it as GGUF: `python3 examples/train/train.py`.

Runs in stages (`recipe.py`); a checkpoint every three minutes and at SIGTERM. Started again, it goes on from the last
checkpoint, and a run that was stopped gives the weights of one that was not.
"""

import argparse
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import torch

import mix
import recipe
import vocabulary
from export import export
from model import Model
from optimizer import Optimizer
from workers import Workers

CHECKPOINT_SECONDS = 180


class Run:
    """A training run: model, optimizer, and where in the recipe it stands."""

    def __init__(self, folder, processes):
        self.folder, self.processes = folder, processes
        torch.manual_seed(recipe.SEED)
        self.encoder = mix.Encoder(vocabulary.load(folder / "tokenizer.json"))
        self.parts = mix.parts(self.encoder)
        self.model = Model(recipe.CONFIG)
        self.optimizer = Optimizer(self.model, recipe.MUON_RATE, recipe.ADAM_RATE, recipe.DECAY)
        self.stage, self.step, self.done, self.seconds, self.mixes = 0, 0, 0, 0.0, []
        self.log = []

    def save(self, name="checkpoint.pt"):
        state = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state(),
            "stage": self.stage,
            "step": self.step,
            "done": self.done,
            "seconds": self.seconds,
            "mixes": [m.state() for m in self.mixes],
            "log": self.log,
        }
        torch.save(state, self.folder / "checkpoint.new")
        os.replace(self.folder / "checkpoint.new", self.folder / name)

    def restore(self, name="checkpoint.pt"):
        state = torch.load(self.folder / name, weights_only=False)
        self.model.load_state_dict(state["model"])
        self.optimizer.restore(state["optimizer"])
        self.stage, self.step, self.done, self.seconds = (state[k] for k in ("stage", "step", "done", "seconds"))
        self.mixes = [self.new_mix(i) for i in range(len(state["mixes"]))]
        for m, saved in zip(self.mixes, state["mixes"]):
            m.restore(saved)
        self.log = state["log"]

    def new_mix(self, stage):
        return mix.Mix(self.parts, recipe.STAGES[stage].weights, f"{recipe.SEED} {stage}")

    def tokens(self):
        """How many tokens have been trained on."""
        return sum(sum(m.drawn.values()) for m in self.mixes)

    def rate(self, stage):
        start, end = stage.rate
        line = start + (end - start) * self.step / stage.steps
        return line * min(1.0, (self.done + 1) / recipe.WARMUP)

    def one_step(self, stage, workers):
        batch = self.mixes[-1].batch(stage.rows, stage.length, stage.answers_only)
        loss = workers.step(*batch, self.rate(stage), self.done + 1)
        self.step += 1
        self.done += 1
        return loss

    def go(self, stopped):
        """Runs the recipe from where it stands to its end, or until `stopped()`."""
        saved = time.time()
        for i, stage in enumerate(recipe.STAGES):
            if i < self.stage:
                continue
            if i > self.stage or not self.mixes:
                self.save(f"before-{stage.name}.pt")
                self.stage, self.step = i, 0 if i > self.stage else self.step
            if len(self.mixes) <= i:
                self.mixes.append(self.new_mix(i))
            workers = Workers(self.model, self.optimizer, self.processes, stage.rows, stage.length)
            mean, clock = None, time.time()
            while self.step < stage.steps:
                loss = self.one_step(stage, workers)
                mean = loss if mean is None else 0.95 * mean + 0.05 * loss
                if self.step % 10 == 0 or self.step == stage.steps:
                    seconds, clock = time.time() - clock, time.time()
                    self.seconds += seconds
                    self.log.append((self.done, stage.name, loss, self.rate(stage)))
                    bar(stage, self.step, mean, self.rate(stage), seconds / (self.step % 10 or 10))
                if stopped() or time.time() - saved > CHECKPOINT_SECONDS:
                    self.save()
                    saved = time.time()
                if stopped():
                    workers.end()
                    return False
            workers.end()
        self.save("final.pt")
        return True


def bar(stage, step, loss, rate, seconds):
    filled = 24 * step // stage.steps
    speed = stage.rows * stage.length / max(seconds, 1e-9)
    print(
        f"{stage.name:>6} [{'#' * filled}{'.' * (24 - filled)}] {step}/{stage.steps}"
        f"  loss {loss:.4f}  rate {rate:.3f}  {speed:,.0f} tokens/s",
        flush=True,
    )


def plot(log, path):
    """The loss of every tenth step, and its running mean."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    steps, losses = [entry[0] for entry in log], [entry[2] for entry in log]
    mean = [sum(losses[max(0, i - 9) : i + 1]) / len(losses[max(0, i - 9) : i + 1]) for i in range(len(losses))]
    plt.figure(figsize=(8, 4.5))
    plt.plot(steps, losses, color="#bbbbbb", linewidth=0.8, label="step")
    plt.plot(steps, mean, color="#225588", label="mean of 100 steps")
    for before, after in zip(log, log[1:]):
        if before[1] != after[1]:
            plt.axvline(after[0], color="#aa3333", linewidth=0.8, label=f"stage '{after[1]}' begins")
    plt.xlabel("step")
    plt.ylabel("loss of the mix, nats per token")
    plt.ylim(bottom=1, top=5)
    plt.grid(alpha=0.3)
    plt.legend()
    plt.tight_layout()
    plt.savefig(path, dpi=110)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--folder", type=Path, default=Path("target/train"), help="for the tokenizer and checkpoints")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    stop = []
    signal.signal(signal.SIGTERM, lambda *_: stop.append(1))
    run = Run(args.folder, args.processes)
    if (args.folder / "checkpoint.pt").exists():
        run.restore()
    if not run.go(lambda: bool(stop)):
        return
    out = args.folder / f"{recipe.NAME}.gguf"
    export(run.model, args.folder / "tokenizer.json", out)
    plot(run.log, args.folder / "loss.png")
    print(f"{out}: {out.stat().st_size:,} bytes, {run.tokens():,} tokens, {run.seconds / 60:.0f} minutes")
    subprocess.run([sys.executable, Path(__file__).with_name("evaluate.py"), out], check=True)


if __name__ == "__main__":
    main()

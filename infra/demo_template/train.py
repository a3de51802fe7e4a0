"""Train a small network on handwritten digits. Everything in this file may be changed.

One run takes a few seconds on one CPU core and ends with a summary; `val_loss` is what counts,
lower is better.
"""

import math
import os
import time

import torch
from prepare import STEPS, evaluate, load_data
from torch import Tensor, nn

SEED = int(os.environ.get("INCUMBENT_SEED", "42"))
BUDGET_S = float(os.environ.get("INCUMBENT_BUDGET_S", "5"))

# Model
HIDDEN = 16
LAYERS = 1
ACTIVATION = "sigmoid"  # choices: relu, gelu, tanh, sigmoid
DROPOUT = 0.4
STANDARDIZE = False

# Training
LEARNING_RATE = 0.01
MOMENTUM = 0.1
WEIGHT_DECAY = 0.01
BATCH_SIZE = 16
LABEL_SMOOTHING = 0.2
WARMUP = 0.3

ACTIVATIONS = {"relu": nn.ReLU, "gelu": nn.GELU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid}


class Network(nn.Module):
    """A multi-layer perceptron on raw pixels."""

    def __init__(self, images: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", images.mean(dim=0) if STANDARDIZE else torch.zeros(64))
        self.register_buffer("scale", images.std(dim=0) + 0.5 if STANDARDIZE else torch.ones(64))
        layers: list[nn.Module] = []
        width = 64
        for _ in range(LAYERS):
            layers += [nn.Linear(width, HIDDEN), ACTIVATIONS[ACTIVATION](), nn.Dropout(DROPOUT)]
            width = HIDDEN
        self.layers = nn.Sequential(*layers, nn.Linear(width, 10))

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of raw images."""
        return self.layers((images - self.mean) / self.scale)


def rate_factor(step: int) -> float:
    """Linear warm-up, then a cosine to zero."""
    progress = step / STEPS
    if progress < WARMUP:
        return progress / WARMUP
    return 0.5 * (1 + math.cos(math.pi * (progress - WARMUP) / (1 - WARMUP)))


def train(model: nn.Module, images: Tensor, labels: Tensor) -> int:
    """Train until all steps are done or the time is up; return the number of steps.

    The time is the processor's: what else runs on the machine takes no steps away.
    """
    optimizer = torch.optim.SGD(
        model.parameters(), lr=LEARNING_RATE, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY
    )
    loss_function = nn.CrossEntropyLoss(label_smoothing=LABEL_SMOOTHING)
    model.train()
    begin = time.process_time()
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * rate_factor(step + 1)
        batch = torch.randint(len(labels), (BATCH_SIZE,))
        loss = loss_function(model(images[batch]), labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 50 == 0 or step == STEPS - 1:
            if not math.isfinite(loss.item()):
                print("FAIL: the loss is not finite")
                raise SystemExit(1)
            done = 100 * (step + 1) / STEPS
            print(f"\rstep {step:05d} ({done:.1f}%) | loss: {loss.item():.4f}", end="", flush=True)
        if time.process_time() - begin > BUDGET_S:
            break
    print()
    return step + 1


def main() -> None:
    """Train once, score the network on held-out digits, print the summary."""
    start = time.perf_counter()
    torch.set_num_threads(1)  # the runs beside this one have cores of their own
    torch.manual_seed(SEED)
    train_images, train_labels, val_images, val_labels = load_data()
    model = Network(train_images)
    begin = time.perf_counter()
    steps = train(model, train_images, train_labels)
    training_seconds = time.perf_counter() - begin
    val_loss, val_accuracy = evaluate(model, val_images, val_labels)
    print("---")
    print(f"val_loss:         {val_loss:.6f}")
    print(f"val_accuracy:     {val_accuracy:.4f}")
    print(f"training_seconds: {training_seconds:.1f}")
    print(f"total_seconds:    {time.perf_counter() - start:.1f}")
    print(f"num_steps:        {steps}")
    print(f"num_params:       {sum(p.numel() for p in model.parameters())}")


if __name__ == "__main__":
    main()

"""One step of training: a batch's losses, their gradients, and what the optimizers make of them."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.profiler import record_function

from geofix_train.augment import crop, recolor
from geofix_train.batches import Batch, Targets
from geofix_train.compiled import bf16_where_faster, compile_encoders
from geofix_train.config import FitConfig
from geofix_train.model import Encoder, Model
from geofix_train.objective import interpolate, pair_loss

_MAX_GRADIENT = 5.0  # norm that the encoders' gradient is cut to

Optimizers = Sequence[torch.optim.Optimizer]
Losses = dict[str, float]


def make_optimizers(model: Model, config: FitConfig) -> Optimizers:
    """Return one for the encoders, and one that touches only prototypes that had a gradient."""
    encoders = [p for encoder in (model.ground, model.aerial) for p in encoder.parameters()]
    prototypes = torch.optim.SparseAdam(
        model.prototypes.parameters(), lr=config.run.prototype_learning_rate
    )
    return make_optimizer(encoders, config), _with_peak(prototypes)


def make_optimizer(parameters: Iterable[nn.Parameter], config: FitConfig) -> torch.optim.Optimizer:
    """Return the one for encoders; frozen parameters are left out."""
    run = config.run
    return _with_peak(
        torch.optim.AdamW(
            [parameter for parameter in parameters if parameter.requires_grad],
            lr=run.learning_rate,
            weight_decay=run.weight_decay,
            fused=True,
        )
    )


def _with_peak(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    for group in optimizer.param_groups:
        group["peak_lr"] = group["lr"]
    return optimizer


def set_learning_rates(optimizers: Optimizers, progress: float) -> None:
    """One cycle: up over the first tenth, then down to zero along a straight line."""
    share = min(progress / 0.1 + 0.05, 1.0) * min(1.0, (1.0 - progress) / 0.9)
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["peak_lr"] * share


def take_step(
    model: Model, optimizers: Optimizers, batch: Batch, config: FitConfig
) -> dict[str, float]:
    """Take one optimizer step; return the losses by name.

    Raises:
        FloatingPointError: the loss is not a number; the weights are spoilt.
    """
    # For backbones that drop paths in training.
    torch.manual_seed((config.run.seed << 32) + batch.step)
    with record_function("to the device"):
        batch = batch.on(model.prototypes.weight.device)
    losses = dict(_losses(model, batch, config))
    encoders = [*model.ground.parameters(), *model.aerial.parameters()]
    return update(optimizers if batch.photo_targets else optimizers[:1], losses, encoders, batch)


def update(
    optimizers: Optimizers,
    losses: Mapping[str, Tensor],
    parameters: Sequence[nn.Parameter],
    batch: Batch,
) -> Losses:
    """Let the weights follow the sum of losses; return them by name, the sum as "loss".

    Args:
        optimizers: that take the step.
        losses: of the batch.
        parameters: whose gradient is cut where it is large.
        batch: for messages.

    Raises:
        FloatingPointError: the loss is not a number; the weights are spoilt.
    """
    loss = torch.stack(list(losses.values())).sum()
    with record_function("backward"):
        for optimizer in optimizers:
            optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
    with record_function("optimizers"):
        nn.utils.clip_grad_norm_(parameters, _MAX_GRADIENT)
        for optimizer in optimizers:
            optimizer.step()
    # Read at once and at the end: the CPU waits here for all that the GPU still has to do.
    total, *parts = torch.stack([loss, *losses.values()]).tolist()
    if not math.isfinite(total):
        raise FloatingPointError(
            f"loss is {total} at step {batch.step + 1}; the batch starts {batch.paths}"
        )
    return {"loss": total, **dict(zip(losses, parts, strict=True))}


def _losses(model: Model, batch: Batch, config: FitConfig) -> Iterator[tuple[str, Tensor]]:
    """Yield the weighted loss of each pair, in float32 whatever the encoders compute in."""
    objective = config.objective
    photos, tiles = _augment(batch)
    ground = encode(model.ground, photos)
    if batch.photo_targets:
        loss = _prototype_loss(model, ground, batch.photo_targets, config)
        yield "ground_to_prototype", objective.ground_to_prototype * loss
    if tiles is None or batch.apart is None:
        return
    aerial = encode(model.aerial, tiles)
    if batch.tile_targets:
        loss = _prototype_loss(model, aerial, batch.tile_targets, config)
        yield "aerial_to_prototype", objective.aerial_to_prototype * loss
    with record_function("losses"):
        similarity = ground @ aerial.T
        both_ways = [
            pair_loss(s.diagonal(), s, batch.apart, objective) for s in (similarity, similarity.T)
        ]
        loss = torch.stack(both_ways).mean()
    yield "ground_to_aerial", objective.ground_to_aerial * loss


def _augment(batch: Batch) -> tuple[Tensor, Tensor | None]:
    """Return a batch's photos and tiles, changed as drawn."""
    with record_function("augmentation"):
        photos = augmented_photos(batch)
        if batch.tiles is None or batch.tile_colors is None:
            return photos, None
        return photos, recolor(batch.tiles, batch.tile_colors)


def augmented_photos(batch: Batch) -> Tensor:
    """Return a batch's photos, changed as drawn."""
    photos = recolor(batch.photos, batch.photo_colors)
    rows, aged = batch.aged
    photos[rows] = aged.to(photos.dtype)
    return crop(photos, batch.crops)


def encode(encoder: Encoder, images: Tensor) -> Tensor:
    """Return the embeddings of images, made in the precision that is fastest on their device."""
    with record_function("forward"), bf16_where_faster(images.device):
        embeddings: Tensor = encoder(images)
    return embeddings


def _prototype_loss(
    model: Model, embeddings: Tensor, targets: Targets, config: FitConfig
) -> Tensor:
    """Return the loss of embeddings (B, D) against the prototypes that they are to be like.

    They are compared with what they will be searched in: prototypes as cell codes hold them.
    """
    with record_function("losses"):
        positive = (embeddings * interpolate(model.prototypes, *targets.mix)).sum(dim=1)
        candidates = interpolate(model.prototypes, *targets.candidate_mix)
        labelled = targets.labelled
        return pair_loss(
            positive[labelled],
            (embeddings @ candidates.T)[labelled],
            targets.is_negative()[labelled],
            config.objective,
        )


def compile_for(model: Model, batch: Batch) -> bool:
    """Compile the encoders for the sizes of a run's batches; return whether that worked."""
    photos, tiles = _augment(batch.on(model.prototypes.weight.device))
    encoders = [(model.ground, photos)]
    if tiles is not None:
        encoders.append((model.aerial, tiles))
    return compile_encoders(*encoders)

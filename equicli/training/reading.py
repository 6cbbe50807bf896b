"""Every training and validation image or cloud, opened once."""

from collections.abc import Callable

from torch import Tensor, nn

from equicli.canonicalization.canonicalizer import Canonicalizer
from equicli.data.clouds.decode import CloudDecoder
from equicli.data.clouds.preprocess import CloudPreprocess
from equicli.data.decode import Decoder
from equicli.data.preprocess import Preprocess
from equicli.prediction.inputs import Tensors
from equicli.training.clouds import read_training_clouds
from equicli.training.images import TrainingImages, read_training_images
from equicli.training.setup import Setup


def read_training_data(
    setup: Setup, canonicalizer: Canonicalizer, features_of: nn.Module | None, *, keep: bool
) -> TrainingImages:
    """Open every training and validation image or cloud once.

    Args:
        features_of: a network whose last layer is to be fitted, and so is asked for what it takes; None asks none.
        keep: whether they are needed afterwards, to train on.
    """
    config, preprocess, decoder = setup.config, setup.found.preprocess, setup.decoder
    if isinstance(preprocess, CloudPreprocess):
        assert isinstance(decoder, CloudDecoder)
        return read_training_clouds(
            setup.split,
            preprocess,
            features_of=features_of,
            head=setup.found.spec.head,
            turn_back=setup.turn_back,
            device=setup.device,
            batch_size=config.training.batch_size,
            decoder=decoder,
            strict=config.strict,
            progress=setup.progress,
        )
    assert isinstance(decoder, Decoder)
    return read_training_images(
        setup.split,
        preprocess,
        canonicalizer.view if not config.training.task_weight or setup.task.has_pose_costs else None,
        look=_look(setup, canonicalizer, preprocess),
        keep=keep,
        features_of=features_of,
        head=setup.found.spec.head,
        turn_back=setup.turn_back,
        device=setup.device,
        batch_size=config.training.batch_size,
        decoder=decoder,
        strict=config.strict,
        progress=setup.progress,
    )


def _look(setup: Setup, canonicalizer: Canonicalizer, preprocess: Preprocess) -> Callable[[Tensor], Tensor]:
    """What the canonicalizer is shown of a picture where the run is evaluated."""
    view = canonicalizer.view
    if setup.config.evaluation.rotate == "file":
        return view.of_picture

    def of_tensor(picture: Tensor) -> Tensor:
        return Tensors(preprocess.normalization(preprocess(picture))[None], preprocess.normalization).small(view)[0]

    return of_tensor

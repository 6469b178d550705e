"""Transfer a tagger from one music culture to another, beside training from scratch.

Source: Papaioannou, Benetos, Potamianos, "From West to East: Who can understand the music of the
others better?", ISMIR 2023; public code pxaris/ccml.

    python main.py --config=configs/transfer.py
    python main.py --config=configs/transfer.py:full
    python main.py --config=configs/transfer.py:pretrained --config.target=audio_folder:FOLDER
    python main.py --config=configs/transfer.py:deformed
    python main.py --config=configs/transfer.py:smoke
    python main.py --config=configs/transfer.py:paper --config.data.data_dir=DIR

Lists are comma separated: `--config.source=A,B --config.target=C,D --config.model.name=X,Y
--config.transfer.modes=... --config.seeds=0,1,2 --config.num_train_tracks=10,40,all` make the
matrix. A data set is `builder/config` or `audio_folder:FOLDER`; a source may also be
`export:DIRECTORY`, a model that was exported or imported, or `pretrained:NAME`. A comma in a path
has a backslash before it. `--config.model.size=full` takes the published widths instead of the
compact ones.

`--config.num_train_tracks=3_per_class,10_per_class,all` counts per label: every label has at least
so many tracks, and a rare one all it has. Of one seed, smaller numbers lie within larger ones.

The default is the first look: from Western to makam music, with 40 or all 336 labeled tracks, a
small musicnn, minutes on two CPU cores; `--config.target=synthetic_cultures/makam,
synthetic_cultures/carnatic` adds another target. `:full` is the matrix with all cultures and the
models' usual front end, some hours on two CPU cores. Both use generated audio and compact models:
their numbers say nothing about real music cultures. Model, learning rate, steps and numbers of
tracks of the default were chosen by scores on validation splits alone.

`:deformed` asks what of music transfers: the target is the source's own music, a fourth lower, half
as fast again, compressed or noisy (`NAME@pitch:-5` and the like, see docs/robustness.md), with 40
labeled tracks, and makam music beside it. What the output layer alone reaches, the features know
however the sound is changed. Any source may be deformed, too.

`:pretrained` starts from models that others trained on real music (`pretrained:NAME`, which brings
its architecture: training from scratch is of the same network) and is meant for a folder of one's
own; `--config.model.name=musicnn_original,short_chunk_resnet` trains a compact model from scratch
beside it.

`:paper` holds the published protocol for the six real corpora. Where the paper's text and its code
differ, or where a better choice is known, the default is the better choice and the published
behavior is a setting:

- Optimizer of the CNNs. Published code: the switch to SGD never fires, so Adam at 1e-4 throughout
  (`--config.optimizer.name=adam`). Here: the switch after 80, 100 and 120 epochs.
- Start of the transformer. Published code: DeiT of ImageNet, wherever there is no source. Here:
  fresh values, unless `model.start` names an export (`musrep import-weights` makes one); a chain
  DeiT -> A -> B is then one command.
- Rate of the transformer. Published code: warm-up and decay are overwritten
  (`--config.optimizer.name=warmup_dips`); its recipe: epochs of decay are counted from the start,
  also during the warm-up (`warmup_decay`). Here: warm-up, then x 0.85 per epoch.
- MusiCNN's input. Published code: transposed (`--config.model.orientation=time_first`). Here:
  frequency first.
- BatchNorm when only the output layer trains. Published code: the statistics keep moving
  (`--config.transfer.batch_norm=update`). Here: frozen, and the embeddings computed once.
- Validation. Published code: one random crop per track. Here: all consecutive chunks of every
  track; `--config.evaluation.validation_num_chunks=1` takes one fixed chunk.
- Best model. Published code: lowest validation loss (`--config.train.select_by=loss`). Here:
  highest validation ROC-AUC.
- End of a track in testing. Published code: dropped (`--config.evaluation.tail=drop`). Here: used.
- Input statistics of the transformer. Published code: of the target, from random crops, anew in
  every run and in every test. Here: of the target's training tracks, once, stored in the export.
"""

from ml_collections import ConfigDict, config_dict
from musrep_jax.configs import common

CULTURES = ("western", "greek", "makam", "hindustani", "carnatic")
CORPORA = ("magnatagatune", "fma", "lyra", "turkish_makam", "hindustani", "carnatic")

EPOCHS = {  # data set -> (VGG-ish, MusiCNN, AST); facts of the public code's configuration
    "magnatagatune": (200, 50, 50),
    "fma": (100, 50, 50),
    "lyra": (200, 200, 50),
    "turkish_makam": (200, 200, 70),
    "hindustani": (200, 200, 50),
    "carnatic": (200, 200, 70),
}
SECONDS = {"turkish_makam": 150.0, "hindustani": 780.0, "carnatic": 330.0}  # use of a recording


def get_config(arg: str = "") -> ConfigDict:
    """Returns the config.

    Args:
        arg: "" for the first look, "full" for all cultures, "pretrained" for a model that knows
            real music, "deformed" for the source's music with another sound, "smoke" for one step
            of everything, "paper" for the published protocol.
    """
    config = common.get_base("transfer")
    config.source = "synthetic_cultures/western"
    config.target = ",".join(f"synthetic_cultures/{name}" for name in CULTURES[1:])
    config.num_train_tracks = "10,all"
    common.embedded_training(config)
    if arg == "":
        use_first_look(config)
    elif arg == "full":
        for mode in ("scratch", "all_layers"):
            config.for_mode[mode] = ConfigDict(
                {"train": {"num_steps": 600, "evaluate_every_steps": 60}}
            )
    elif arg == "deformed":
        use_first_look(config)
        use_deformed_targets(config)
    elif arg == "pretrained":
        use_pretrained_model(config)
    elif arg == "smoke":
        common.smoke(config)
        config.target = "synthetic_cultures/makam"
        config.num_train_tracks = "all"
    elif arg == "paper":
        use_published_protocol(config)
    elif arg:
        raise ValueError(
            "configs/transfer.py knows the arguments full, pretrained, deformed, smoke and paper, "
            f"not {arg!r}."
        )
    return config


def use_first_look(config: ConfigDict) -> None:
    """Writes one target, two numbers of tracks and a small model into the config.

    The front end has a quarter of the usual values per second, which makes a step several times
    cheaper; data sets that hold spectrograms (Greek, Lyra) need the usual one.
    """
    config.target = "synthetic_cultures/makam"
    config.num_train_tracks = "40,all"
    config.model.name = "musicnn"
    config.compact.musicnn.update(
        n_mels=48, n_fft=1024, hop_length=512, num_samples=59392, dense_width=128, dropout_rate=0.2
    )
    config.train.update(num_steps=600, evaluate_every_steps=50, patience=3)
    config.for_mode.all_layers = ConfigDict({"train": {"num_steps": 400}})
    config.for_mode.output_layer.train.patience = 4


def use_deformed_targets(config: ConfigDict) -> None:
    """Writes the source's own music, deformed, beside another culture's into the config."""
    changes = ("pitch:-5", "stretch:1.5", "compression:6", "noise:0.4")
    targets = [f"synthetic_cultures/western@{change}" for change in changes]
    config.target = ",".join([*targets, "synthetic_cultures/makam"])
    config.num_train_tracks = "40"
    config.data.options.synthetic_cultures = ConfigDict({"num_tracks": 240})


def use_pretrained_model(config: ConfigDict) -> None:
    """Writes a published model as source, and training that suits it, into the config.

    All layers are trained at a tenth of the rate of a fresh network, and with the statistics of
    BatchNorm that the model came with: a handful of tracks has none that are better.
    """
    config.source = "pretrained:musicnn-msd"
    config.num_train_tracks = "3_per_class,10_per_class,30_per_class,all"
    config.train.update(batch_size=8, num_steps=300, evaluate_every_steps=50, patience=3)
    config.for_mode.output_layer.train.update(num_steps=4000, evaluate_every_steps=200, patience=8)
    config.for_mode.all_layers = ConfigDict(
        {"optimizer": {"learning_rate": 3e-4}, "transfer": {"batch_norm": "frozen"}}
    )


def use_published_protocol(config: ConfigDict) -> None:
    """Writes the published training into the config; the table above says what differs."""
    config.source = ",".join(CORPORA)
    config.target = ",".join(CORPORA)
    config.num_train_tracks = "all"
    config.model.size = "full"
    config.model.name = "vgg_ish,musicnn,spectrogram_transformer"
    config.optimizer.name = "adam_sgd"
    config.optimizer.learning_rate = 1e-4
    config.optimizer.weight_decay = 1e-4
    config.train.update(batch_size=16, num_steps=None, evaluate_every_steps=None)
    config.train.update(evaluate_every_epochs=1, patience=None)
    config.data.cache_megabytes = 0
    config.for_mode = ConfigDict()
    config.for_model = ConfigDict(
        {
            "vgg_ish": {"train": {"num_epochs": 200}},
            "musicnn": {
                # 128 bands with the filter heights of the 96-band original; 187 frames.
                "model": {"n_mels": 128, "num_samples": 47744, "vertical_heights": (67, 38)},
                "train": {"num_epochs": 200},
            },
            "spectrogram_transformer": {
                # The published code starts from DeiT of ImageNet: import it, and say where it is by
                # --config.for_model.spectrogram_transformer.model.start=DIRECTORY.
                "model": {"variant": "base", "start": config_dict.placeholder(str)},
                "optimizer": {
                    "name": "warmup_then_decay",
                    "learning_rate": 1e-5,
                    "weight_decay": 5e-7,
                    "betas": (0.95, 0.999),
                },
                "train": {"num_epochs": 50, "batch_size": 12},
                "evaluation": {"aggregate": "logit"},
            },
        }
    )
    config.for_target = ConfigDict()
    for name, epochs in EPOCHS.items():
        models = ("vgg_ish", "musicnn", "spectrogram_transformer")
        config.for_target[name] = ConfigDict(
            {
                "train": {"max_seconds": SECONDS.get(name)},
                "for_model": {
                    model: {"train": {"num_epochs": number}}
                    for model, number in zip(models, epochs, strict=True)
                },
            }
        )

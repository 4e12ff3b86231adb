"""What answers the page: photos encoded once, warm decoders on the device and on the CPU, and what they said."""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict
from collections.abc import Hashable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np

from harness.core.errors import DeviceError, UsageError
from harness.core.progress import Progress
from harness.core.run_folder import list_runs
from harness.core.visible import visible
from harness.devices.base import Device
from harness.devices.registry import open_device
from harness.report import page as report_page
from harness.sam2.image_path.pipeline import Features, ReadDecoder, encode
from harness.sam2.image_path.tap_page.answers import SIDES, Answer, Kind, Side, picture
from harness.sam2.image_path.tap_page.choices import BackEnd, DecoderChoice
from harness.sam2.image_path.tap_page.engine import Engine
from harness.sam2.image_path.tap_page.ops import Localizer, OpsQuestion, found_in, known_run
from harness.sam2.image_path.tap_page.photos import Photos, mask_shape
from harness.sam2.image_path.tap_page.work import Work, Works
from harness.sam2.shared.clicks import Tap
from harness.sam2.shared.image import Photo, preprocess
from harness.sam2.shared.unit import Unit

V = TypeVar("V")

CPU = BackEnd("host", "cpu")
"""What every device is compared with."""
PHOTOS_KEPT, ENCODED_KEPT, ANSWERS_KEPT = 4, 8, 128
ENCODE_SECONDS, CONVERT_SECONDS, COMPILE_SECONDS = 10.0, 30.0, 5.0


class Kept(Generic[V]):
    """The last few values by their keys, for several threads."""

    def __init__(self, most: int) -> None:
        self._most, self._values, self._lock = most, OrderedDict[Hashable, V](), threading.Lock()

    def get(self, key: Hashable) -> V | None:
        """The value, which counts as used now; None where it is not there or no more."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
            return self._values.get(key)

    def put(self, key: Hashable, value: V) -> V:
        """Keep a value; the one unused for longest goes where there are too many."""
        with self._lock:
            self._values[key] = value
            self._values.move_to_end(key)
            if len(self._values) > self._most:
                self._values.popitem(last=False)
        return value


@dataclass(frozen=True)
class Setup:
    """What is served. `encoder`: the host's CPU runs the encoder, or the first device's GPU. `localizer` finds the ops;
    None where that is not offered. `results`: where its run folders go."""

    photos: Photos
    decoders: tuple[DecoderChoice, ...]
    back_ends: tuple[BackEnd, ...]
    first_decoder: str
    encoder: Unit = "cpu"
    timeout: float = 600.0
    localizer: Localizer | None = None
    results: Path = Path("results")


@dataclass(frozen=True)
class Place:
    """Which photo, decoder and back end a request means."""

    name: str
    decoder: DecoderChoice
    back_end: BackEnd


@dataclass(frozen=True)
class Question:
    """One object's tap at a place. `slot`: a newer question of the same one takes its place while it waits."""

    place: Place
    tap: Tap
    slot: tuple[str, str] = ("", "")


@dataclass(frozen=True)
class _Said:
    answer: Answer
    question: Question
    note: str


@dataclass(frozen=True)
class _Encoded:
    features: Features
    where: str
    millis: float


class Desk:
    """Answers what pages ask. Nothing of a page's own is kept here but its last answers, each under a name of its own:
    two pages cannot mix."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.works = Works()
        self._photos: Kept[Photo] = Kept(PHOTOS_KEPT)
        self._encoded: Kept[_Encoded] = Kept(ENCODED_KEPT)
        self._read: Kept[ReadDecoder] = Kept(16)
        self._said: Kept[_Said] = Kept(ANSWERS_KEPT)
        self._making = threading.Lock()
        self._made: set[tuple[str, int]] = set()
        self._encoders_of: dict[str, tuple[Path, ...]] = {}
        names = dict.fromkeys(back_end.device for back_end in setup.back_ends)
        self.engines = {name: Engine(name, partial(open_device, name)) for name in names}
        self._cpu = Engine("the CPU", partial(open_device, "host"))
        self._encoders = {"cpu": Engine("the encoder's CPU", partial(open_device, "host"))}

    def close(self) -> None:
        """End every device, and what else is going on."""
        every = [*self.engines.values(), self._cpu, *self._encoders.values()]
        ends = [engine.close for engine in every]
        if self.setup.localizer is not None:
            ends.append(self.setup.localizer.close)
        closing = [threading.Thread(target=end) for end in ends]
        for thread in closing:
            thread.start()
        for thread in closing:
            thread.join()

    def state(self) -> dict[str, Any]:
        """What the page has to know at its start."""
        photos, models = self.setup.photos, self.setup.decoders[0].models
        return {
            "schema": 1,
            "photos": list(photos.names),
            "left_out": photos.left_out,
            "decoders": [choice.to_json() for choice in self.setup.decoders],
            "decoder": self.setup.first_decoder,
            "back_ends": [{"key": one.key, "label": one.label} for one in self.setup.back_ends],
            "back_end": self.setup.back_ends[0].key,
            "model": models.name,
            "weights": models.provenance,
            "random_weights": models.is_random,
            "can_localize": self.setup.localizer is not None,
        }

    def place(self, photo: str, decoder: str, back_end: str) -> Place:
        """What is meant by these names. Raises `UsageError` for one that was not offered."""
        if photo not in self.setup.photos.names:
            raise UsageError(f"There is no photo {visible(photo[:80])!r} here.", "Choose one of the list.")
        found = next((choice for choice in self.setup.decoders if choice.key == decoder), None)
        if found is None:
            raise UsageError(f"There is no decoder {visible(decoder[:80])!r} here.", "Choose one of the list.")
        end = next((one for one in self.setup.back_ends if one.key == back_end), None)
        if end is None:
            raise UsageError(f"There is no back end {visible(back_end[:80])!r} here.", "Choose one of the list.")
        return Place(photo, found, end)

    def photo(self, name: str) -> Photo:
        """The photo, from memory where it was asked for lately. Raises `UsageError`."""
        found = self._photos.get(name)
        return self._photos.put(name, self.setup.photos.load(name)) if found is None else found

    def open(self, place: Place) -> Work:
        """Have a photo encoded, and the decoder compiled on both sides; the result is its size, and what encoded it."""
        return self.works.begin(("open", place.name, place.decoder.key, place.back_end.key), partial(self._open, place))

    def needs(self, question: Question) -> Work | None:
        """The work that has to be done before a question can be answered; None where it can be. Raises `UsageError` for
        a tap that cannot be asked."""
        place, tap = question.place, question.tap
        tap.check(self.photo(place.name).shape)
        place.decoder.models.check([tap])
        if self._encoded.get(self._key(place)) is None:
            return self.open(place)
        if (place.decoder.key, tap.tokens) in self._made:
            return None
        key = ("make", place.decoder.key, tap.tokens)
        return self.works.begin(key, lambda work: self._make(place.decoder, tap, None, work))

    def ask(self, question: Question, side: Side) -> Future[tuple[str, Answer]]:
        """One side's answer, and the name under which it is kept. The future ends with `DeviceError` where the device
        does not complete; the next question starts it anew."""
        return self._engine(question.place, side).ask(partial(self._answer, question, side), (side, *question.slot))

    def at_once(self, place: Place) -> bool:
        """Whether both sides can be asked at the same time without being in each other's way."""
        return self.engines[place.back_end.device].elsewhere

    def picture(self, name: str, kind: Kind) -> tuple[bytes, str]:
        """A PNG of an answer and its file's name. Raises `UsageError` for an answer that is no longer kept."""
        said = self._said.get(name)
        if said is None:
            raise UsageError("That answer is no longer kept.", "Tap again.")
        place = said.question.place
        random = "-random-weights" if place.decoder.models.is_random else ""
        file = f"{Path(place.name).stem}-{kind}-{said.answer.side}{random}.png"
        return picture(self.photo(place.name), said.answer.logits, kind, said.note), file

    def known_ops(self, decoder: str, back_end: str, tokens: int) -> dict[str, Any] | None:
        """What is known of the ops of a decoder for prompts of that length on a back end. Raises `UsageError`."""
        place = self.place(self.setup.photos.names[0], decoder, back_end)
        if (place.decoder.key, tokens) not in self._made:
            return None
        read = self.decoder(place, "device", tokens)
        folder = known_run(self.setup.results, read.model, read.sha256, place.back_end)
        return None if folder is None else found_in(folder)

    def find_ops(self, question: Question) -> Work:
        """Have the ops found that break the question's decoder; the device takes no taps meanwhile. Raises `UsageError`
        where that is not offered."""
        localizer, place = self.setup.localizer, question.place
        if localizer is None:
            raise UsageError("The ops cannot be looked for here.")
        engine = self.engines[place.back_end.device]
        read = self.decoder(place, "device", question.tap.tokens)
        asked = OpsQuestion(
            read.model,
            read.inputs(self.features(place), question.tap, self.photo(place.name).shape),
            place.back_end.device,
            place.back_end.options,
            self.setup.timeout,
            place.decoder.models.provenance,
            self.setup.results,
        )

        def work(progress: Work) -> dict[str, Any]:
            progress.stage("waiting for the device", 5.0)
            return found_in(engine.lend("is looking for the ops", lambda: localizer.localize(asked, progress)))

        return self.works.begin(("ops", place.decoder.key, place.back_end.key), work)

    def run_file(self, run: str) -> bytes:
        """The report of a run in the results folder, made anew: in a run's folder anything may lie under that name.
        Raises `UsageError` where there is none."""
        folder = next((path for path in list_runs(self.setup.results) if path.name == run), None)
        if folder is None:
            raise UsageError(f"There is no run {visible(run[:120])!r} here.", "`harness runs` lists them.")
        return report_page.render(folder).encode()

    def decoder(self, place: Place, side: Side, tokens: int) -> ReadDecoder:
        """The decoder for one side, read once."""
        end = place.back_end if side == "device" else CPU
        key = (place.decoder.key, tokens, end.options)
        found = self._read.get(key)
        if found is None:
            found = self._read.put(key, ReadDecoder(place.decoder.models, tokens, end.options, self.setup.timeout))
        return found

    def features(self, place: Place) -> Features:
        """What the photo was encoded to. Raises `UsageError` where that is not known (any more)."""
        encoded = self._encoded.get(self._key(place))
        if encoded is None:
            raise UsageError(f"The photo {visible(place.name)!r} is not encoded.", "Open it again.")
        return encoded.features

    def _engine(self, place: Place, side: Side) -> Engine:
        return self.engines[place.back_end.device] if side == "device" else self._cpu

    def _answer(self, question: Question, side: Side, device: Device) -> tuple[str, Answer]:
        place = question.place
        photo = self.photo(place.name)
        decoder = self.decoder(place, side, question.tap.tokens)
        decoded = decoder.decode(device, self.features(place), question.tap, photo.shape)
        answer = Answer.of(side, decoded, mask_shape(photo))
        name = secrets.token_hex(8)
        end = place.back_end if side == "device" else CPU
        note = f"{end.label}; decoder {place.decoder.label}; {place.decoder.models.provenance}"
        self._said.put(name, _Said(answer, question, note))
        return name, answer

    def _open(self, place: Place, work: Work) -> dict[str, Any]:
        work.stage("reading the photo", 1.0)
        photo = self.photo(place.name)
        middle = Tap.at(photo.shape[1] / 2, photo.shape[0] / 2)
        encoded = self._encoded.get(self._key(place))
        if encoded is None:
            self._make(place.decoder, middle, self._parts(), work)
            work.stage(f"encoding the photo on {self._encoder_name()}", ENCODE_SECONDS)
            encoded = self._encoder().ask(partial(self._encode, place, photo)).result()
        else:
            self._make(place.decoder, middle, None, work)
        for side in SIDES:
            end = place.back_end if side == "device" else CPU
            work.stage(f"compiling the decoder for {end.label}", COMPILE_SECONDS)
            try:
                self.ask(Question(place, middle), side).result()
            except DeviceError:  # said again, in its place, when somebody taps
                continue
        height, width = photo.shape[:2]
        return {"width": width, "height": height, "encoder": encoded.where, "encode_ms": encoded.millis}

    def _make(self, choice: DecoderChoice, tap: Tap, parts: int | None, progress: Progress) -> None:
        progress.stage("waiting for another conversion", CONVERT_SECONDS)
        with self._making:
            progress.stage("looking for the models", 1.0)
            choice.models.prepare([tap], parts, lambda what: progress.stage(what, CONVERT_SECONDS))
            self._made.add((choice.key, tap.tokens))

    def _encode(self, place: Place, photo: Photo, device: Device) -> _Encoded:
        found = self._encoded.get(self._key(place))
        if found is None:  # another page may have asked meanwhile
            models, unit = place.decoder.models, self.setup.encoder
            pixels = preprocess(photo, models.constants().image_size)
            done = encode(device, models, pixels, unit, self._parts(), self.setup.timeout)
            features = {name: np.array(values) for name, values in done.features.items()}
            for values in features.values():
                values.flags.writeable = False  # so that a device is asked by digest, which is computed once
            found = _Encoded(features, self._encoder_name(), done.millis)
            self._encoded.put(self._key(place), found)
            device.stop()  # the encoder's memory is the decoders' from now on
        return found

    def _key(self, place: Place) -> Hashable:
        """The photo and its encoder, which decoders share, unless files of several are there."""
        choice = place.decoder
        if choice.key not in self._encoders_of:  # a plan's name is a digest of much
            self._encoders_of[choice.key] = tuple(part.model for part in choice.models.encoder(self._parts()))
        return place.name, self._encoders_of[choice.key]

    def _parts(self) -> int:
        models = self.setup.decoders[0].models
        return models.parts(self._encoder_device(), self.setup.encoder)

    def _encoder_device(self) -> str:
        return "host" if self.setup.encoder == "cpu" else self.setup.back_ends[0].device

    def _encoder_name(self) -> str:
        return f"{self._encoder_device()}: {self.setup.encoder.upper()}"

    def _encoder(self) -> Engine:
        return self._encoders["cpu"] if self.setup.encoder == "cpu" else self.engines[self._encoder_device()]

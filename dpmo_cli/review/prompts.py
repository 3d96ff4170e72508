"""Clicks to a mask, live: the run's network, weights and method, in one thread."""

from __future__ import annotations

import hashlib
import queue
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from threading import Lock, Thread
from time import perf_counter
from typing import TYPE_CHECKING, Any

from dpmo_cli.errors import DpmoError
from dpmo_cli.geometry.rle import WindowXYXY
from dpmo_cli.masks.method import Method
from dpmo_cli.review.clicks import Asked, Place, PointXY
from dpmo_cli.review.people import People
from dpmo_cli.review.photos import Photo, Recent
from dpmo_cli.review.placed import PlacedMask
from dpmo_cli.review.run_index import RunInfo

if TYPE_CHECKING:
    from dpmo_cli.sam.engine import Encoded, SamEngine
    from dpmo_cli.sam.models import EngineSpec

EMBEDDING_BYTES = 256 * 2**20
"""Embeddings that are held: some hundred of nano, some dozen of the ViTs."""

PLACES_HELD = 64
UNASKED_BYTES = 512 * 2**20
"""Weights up to this are loaded before anybody asks: nano and ViT-B; the others fill memories."""


class NoClicksError(DpmoError):
    """Clicks can't be answered here: the run's weights are not at hand."""


@dataclass(frozen=True)
class Drawn:
    """What the network draws: a mask, or None; and the seconds it took."""

    mask: PlacedMask | None
    seconds: float


class Prompter:
    """Answers clicks in a thread of its own, where the network is loaded at the first question.

    Args:
        run: whose network, weights and method are taken.
    """

    def __init__(self, run: RunInfo) -> None:
        self._run = run
        self._engine: SamEngine | None = None
        self._encoded: Recent[tuple[str, WindowXYXY], Encoded] = Recent(
            EMBEDDING_BYTES, lambda one: one.embedding.nbytes
        )
        self._places: Recent[tuple[int, int | None, PointXY], tuple[People, Place]] = Recent(
            PLACES_HELD, lambda _: 1
        )
        self._hashes: Recent[int, tuple[Photo, str]] = Recent(8, lambda _: 1)
        self._waiting: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]]] = (
            queue.SimpleQueue()
        )
        # A daemon: Ctrl-C does not wait for the network.
        self._thread = Thread(target=self._work, name="network", daemon=True)
        self._starting = Lock()

    def ask(self, asked: Asked) -> Future[Drawn]:
        """The mask that clicks give; the future raises NoClicksError where none can be had."""
        return self._submit(lambda: self._draw(asked))

    def prepare(self, asked: Asked, *, unasked: bool = False) -> Future[bool]:
        """Load the network and encode what it will see of a person, before the first click.

        Args:
            asked: the person.
            unasked: nobody means to click yet; then weights above UNASKED_BYTES are not loaded.

        Returns:
            A future: whether clicks are quick now.
        """

        def encode() -> bool:
            if unasked and self._engine is None:
                spec = self._found()
                if spec.weights_path.stat().st_size > UNASKED_BYTES:
                    return False
            engine = self._loaded()
            with asked.people.lock:
                window = self._placed(engine, asked).window_xyxy
            self._seen(engine, asked.photo, window)
            return True

        return self._submit(encode)

    def _submit(self, work: Callable[[], Any]) -> Future[Any]:
        future: Future[Any] = Future()
        self._waiting.put((future, work))
        with self._starting:
            if not self._thread.is_alive():
                self._thread.start()
        return future

    def _work(self) -> None:
        while True:
            future, work = self._waiting.get()
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(work())
            except BaseException as error:
                future.set_exception(error)

    def _loaded(self) -> SamEngine:
        """The run's network.

        Raises:
            NoClicksError: its weights are missing, or are others.
        """
        if self._engine is None:
            from dpmo_cli.sam.models import load_engine

            self._engine = load_engine(self._found())
        return self._engine

    def _found(self) -> EngineSpec:
        """The run's weights: those of the catalogue, or the file that the run was given.

        Raises:
            NoClicksError: they are missing, or are others.
        """
        from dpmo_cli.sam.models import resolve_engine

        settings = self._run.settings
        name, wanted = str(settings["sam"]), str(settings["weights_sha256"])
        why = (
            f"the weights of {name} that the run was made with (SHA-256 {wanted[:12]}...) are not "
            "here"
        )
        places = [None] if self._run.checkpoint is None else [None, self._run.checkpoint]
        for checkpoint in places:
            try:
                spec = resolve_engine(name, checkpoint=checkpoint, dtype=str(settings["dtype"]))
            except DpmoError as missing:
                why = str(missing)
            else:
                if spec.weights_sha256 == wanted:
                    return spec
        raise NoClicksError(f"no clicks: {why}")

    def _method(self) -> Method:
        settings = self._run.settings
        return Method(
            nnec_scale=float(settings["nnec_scale"]),
            tiles=settings["tiles"] == "auto",
            extent=str(settings["extent"]),
            negatives=int(settings["negatives"]),
            radii=str(settings["radii"]),
            ownership=str(settings["ownership"]),
        )

    def _placed(self, engine: SamEngine, asked: Asked) -> Place:
        """Where the person lies; the same for all clicks on it."""
        key = id(asked.people), asked.point_id, asked.xy
        held = self._places.get(key)
        # The id may be that of persons who were forgotten.
        if held is None or held[0] is not asked.people:
            from dpmo_cli.review.redraw import place_of

            held = asked.people, place_of(asked, engine.frame_px, self._method())
            self._places.put(key, held)
        return held[1]

    def _seen(self, engine: SamEngine, photo: Photo, window: WindowXYXY) -> Encoded:
        """The embedding of a part of a photo, by its content."""
        held = self._hashes.get(id(photo))
        if held is None:
            held = photo, hashlib.sha256(photo.data).hexdigest()
            self._hashes.put(id(photo), held)
        key = held[1], window
        encoded = self._encoded.get(key)
        if encoded is None:
            x0, y0, x1, y1 = window
            (encoded,) = engine.encode([photo[y0:y1, x0:x1]])
            self._encoded.put(key, encoded)
        return encoded

    def _draw(self, asked: Asked) -> Drawn:
        from dpmo_cli.review.redraw import Redraw

        engine = self._loaded()
        begin = perf_counter()
        with asked.people.lock:
            place = self._placed(engine, asked)
        encoded = self._seen(engine, asked.photo, place.window_xyxy)
        with asked.people.lock:
            mask = Redraw(engine, encoded, place, asked, self._method()).mask()
        return Drawn(mask, perf_counter() - begin)

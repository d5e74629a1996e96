"""The sweep's picture in TensorBoard."""

import time
from pathlib import Path

TAG = "sweep"
SUFFIX = ".sweep"  # of the event file's name, so that the next one takes its place


def write_event(folder: Path, png: bytes, *, width: int, height: int) -> None:
    """Write the picture into the sweep's own folder, instead of an earlier one.

    TensorBoard shows it under Images as that of the run `.`, beside the jobs. The tag has no scalars, so the pages of
    curves and HParams stay as they are.
    """
    from tensorboard.compat.proto.event_pb2 import Event  # type: ignore[import-untyped]
    from tensorboard.compat.proto.summary_pb2 import Summary  # type: ignore[import-untyped]
    from tensorboard.summary.writer.event_file_writer import EventFileWriter  # type: ignore[import-untyped]

    before = list(folder.glob(f"events.out.tfevents.*{SUFFIX}"))
    image = Summary.Image(height=height, width=width, colorspace=4, encoded_image_string=png)
    writer = EventFileWriter(str(folder), filename_suffix=SUFFIX)
    writer.add_event(Event(step=0, wall_time=time.time(), summary=Summary(value=[Summary.Value(tag=TAG, image=image)])))
    writer.close()
    for path in before:
        path.unlink(missing_ok=True)

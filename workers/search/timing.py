"""What a search does about a device that times its trials: it waits, for as long as that pays."""

from sqlalchemy.orm import Session

from app.settings import Device as DeviceSettings
from app.store import events, measurements
from app.store.tables import JobRow, MeasurementRow
from workers.search.reading import Search


def is_awaited(
    session: Session, search: Search, job: JobRow, settings: DeviceSettings, *, over: bool
) -> bool:
    """Return whether a trial that has ended is still to be timed by the search's device.

    A measurement that is waited for no longer ends here, and the search's events say so.

    Args:
        session: in which the search's turn is taken.
        search: that is locked.
        job: of the trial.
        settings: how long to wait.
        over: whether the search ends, so that nothing is waited for.
    """
    if search.objective.minimize != "latency":
        return False
    row = measurements.pending(session, job.id)
    if row is None:
        return False
    reason = "the search ended first" if over else measurements.overdue(session, row, settings)
    if reason is None:
        return True
    measurements.fail(row, f"The search did not wait for it: {reason}.")
    message = f"No time from the device '{row.device}': {reason}. The worker's times count."
    events.append(session, search.row.id, "log", {"level": "warning", "message": message})
    session.flush()
    return False


def of(session: Session, search: Search, job: JobRow) -> MeasurementRow | None:
    """Return what the search's device measured of a trial's first file; None where it did not."""
    if search.objective.minimize != "latency":
        return None
    first = next(iter(measurements.listed(session, job.id)), None)
    return first if first is not None and first.state == "measured" else None

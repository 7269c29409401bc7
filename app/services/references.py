"""Models and datasets that are named by an address: checked here, fetched by a worker."""

from sqlalchemy.orm import Session

from app.domain.addresses import admission, permitted, spelled_out
from app.domain.problems import FieldError, Invalid, NotAvailable, TooManyRequests
from app.domain.references import Reference
from app.domain.sources import Address, AddressError, Source, place_of
from app.services.uploads import Row, clean_filename
from app.settings import Settings
from app.store import fetches


def check(settings: Settings, tenant: str, url: str) -> Address:
    """Take the address apart that a model or dataset is to be fetched from.

    Raises:
        Invalid: It is no address, or spells out a private one that is not admitted.
        NotAvailable: This deployment does not fetch from there.
    """
    try:
        address = Address.parse(url)
    except AddressError as error:
        raise _invalid(str(error)) from error
    fetch = settings.fetch
    if not fetch.allowed:
        raise NotAvailable(
            "This deployment fetches no models or datasets: the operator can allow places with"
            " FETCH_ALLOWED. Send the bytes instead.",
            errors=[FieldError(pointer="#/url", detail="nothing is fetched here")],
        )
    if place_of(fetch.places, address, tenant) is None:
        detail = f"{address.scheme}://{address.host} is not a place that you may fetch this from"
        raise NotAvailable(
            f"{detail}; the operator can allow it with FETCH_ALLOWED. Send the bytes instead.",
            errors=[FieldError(pointer="#/url", detail=detail)],
        )
    addresses = spelled_out(address.host) if address.scheme != "s3" else []
    if addresses and not any(permitted(each, fetch.allowed_networks) for each in addresses):
        raise _invalid(
            f"{address.host} is not a public address: use one that is."
            f" {admission('FETCH_ALLOWED_NETWORKS', addresses)}"
        )
    return address


def add(session: Session, settings: Settings, row: Row, reference: Reference) -> Row:
    """Store a model or dataset that a worker fetches from its address, and then inspects.

    Raises:
        Invalid, NotAvailable: Nothing may be fetched from there.
        TooManyRequests: The tenant waits for as many files as it may.
    """
    address = check(settings, row.tenant, reference.url)
    row.filename = row.filename or clean_filename(address.filename)
    return fetch(session, settings, row, Source(url=reference.url, sha256=reference.sha256))


def fetch(session: Session, settings: Settings, row: Row, source: Source) -> Row:
    """Store a model or dataset whose bytes a worker fetches, and then inspects.

    Raises:
        TooManyRequests: The tenant waits for as many files as it may.
    """
    most = settings.quota.uploads
    if fetches.waiting(session, row.tenant) >= most:
        raise TooManyRequests(
            f"{most} of your models and datasets are still being fetched: wait for some.",
            headers={"Retry-After": "60"},
        )
    fetches.add(session, row, source)
    session.refresh(row)
    return row


def _invalid(detail: str) -> Invalid:
    return Invalid(f"url: {detail}.", errors=[FieldError(pointer="#/url", detail=detail)])

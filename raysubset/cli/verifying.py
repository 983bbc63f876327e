"""The command that looks whether a run is what it wrote: verify."""

from __future__ import annotations

from functools import partial
from typing import Annotated

from cyclopts import Parameter

from raysubset.cli.app import Ended, app
from raysubset.cli.looking_on import show


@app.command(name="verify")
def verify_(
    run_folder: Annotated[
        str, Parameter(help="A run, comparison, frontier or selection: its folder, or its URI.")
    ],
    /,
    *,
    gains: Annotated[
        bool, Parameter(help="Make choices again, and a sample of gains from the checkpoint.")
    ] = True,
    model: Annotated[
        str | None,
        Parameter(help="Allow the run's module:factory, which is code of yours, to be imported."),
    ] = None,
    strict: Annotated[
        bool, Parameter(negative="", help="What could not be checked fails too.")
    ] = False,
    as_json: Annotated[
        bool, Parameter(name="--json", negative="", help="One JSON document, and nothing else.")
    ] = False,
) -> Ended:
    """Look whether a run is whole and its choices are right: 0 whole, 1 damaged."""
    from raysubset.verifying.examination import verify
    from raysubset.verifying.text import lines_of

    examined = verify(run_folder, gains=gains, model=model, strict=strict)
    show(examined.to_json(), partial(lines_of, examined), as_json=as_json)
    return Ended(code=examined.exit_code, value=examined)

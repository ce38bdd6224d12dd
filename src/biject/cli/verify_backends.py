"""`biject verify-backends`."""

from __future__ import annotations

from biject.cli.flags import Json, Switch


def verify_backends(*, verbose: Switch = False, json: Json = False) -> int:
    """Prove parity with torch, transformers, bitsandbytes and PEFT on this machine, tier by tier.

    Products; linears with a bias and LM heads; codes, scales and dequantised values of nf4, fp4 and int8;
    cross-entropy; logits of LoRA and of QLoRA. The first tier that fails names what is to blame for those
    after it. A tier is skipped, and says why, where a library is not installed. The exit code is 1 where
    a tier fails.

    Args:
        verbose: Print every check.
    """
    from biject.cli.report import print_report
    from biject.environment import prepare

    prepare()
    from biject.verify.backends import verify_backends as verify

    return print_report(verify(), json=json, verbose=verbose)

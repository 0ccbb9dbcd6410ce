"""Half precision, written into the graphs.

``mode`` says what may be asked for, ``ops`` which operators compute in it, ``tensors`` rounds
each weight once, ``caster`` applies ``passes.cast_precision`` to a family's subnets, and
``rounding`` repeats a device's rounding for verification.
"""

"""The normalising flows of zuko as architectures of smoothctl."""

from smoothctl_zuko.autoregressive import BPF, MAF, NSF, SOSPF
from smoothctl_zuko.continuous import CNF
from smoothctl_zuko.coupling import NICE, RealNVP
from smoothctl_zuko.gaussianization import GF
from smoothctl_zuko.mixture import GMM
from smoothctl_zuko.neural import NAF, UNAF

__all__ = ["BPF", "CNF", "GF", "GMM", "MAF", "NAF", "NICE", "NSF", "SOSPF", "UNAF", "RealNVP"]

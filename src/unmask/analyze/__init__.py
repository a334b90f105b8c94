"""Why masked diffusion learns slowly: how local the information of a corpus is, and to a model.

Computations on token arrays, blocks and models; opening runs and writing records is `study`'s.
"""

from unmask.analyze.mutual import Locality, mutual_information, read_text
from unmask.analyze.reach import Bell, recommended_bell

__all__ = ["Bell", "Locality", "mutual_information", "read_text", "recommended_bell"]

"""What makes masked diffusion learn as it does: computed on tensors, blocks and models alone.

Opening runs and writing records is `study`'s.
"""

from unmask.analyze.mutual import Locality, mutual_information, read_text
from unmask.analyze.reach import Bell, recommended_bell

__all__ = ["Bell", "Locality", "mutual_information", "read_text", "recommended_bell"]

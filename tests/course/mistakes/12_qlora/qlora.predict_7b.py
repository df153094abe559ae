"""Answers to qlora.predict_7b: 3.87 GB."""

from minipeft.course.corpus import right, wrong

LINEAR, OTHERS = 6_476_005_376, 262_410_240
EACH = (4 + 8 / 64 + 32 / (256 * 64)) / 8

four_bits = wrong("scales and the rest are missing")((LINEAR + OTHERS) / 2e9)
all_packed = wrong("embeddings, norms and the head are not quantized")(
    (LINEAR + OTHERS) * EACH / 1e9
)
no_scales = wrong("the scales are missing: 4.127")((LINEAR / 2 + 2 * OTHERS) / 1e9)
single = wrong("without double quantization")((LINEAR * 4.5 / 8 + 2 * OTHERS) / 1e9)
only_linear = wrong("the others are missing")(LINEAR * EACH / 1e9)
wide = wrong("32 bits for the others")((LINEAR * EACH + 4 * OTHERS) / 1e9)
binary = wrong("units of 2³⁰ bytes")((LINEAR * EACH + 2 * OTHERS) / 2**30)
in_bytes = wrong("those are bytes")(LINEAR * EACH + 2 * OTHERS)

exact = right((LINEAR * EACH + 2 * OTHERS) / 1e9)
rounded = right(3.87)

"""Mixed precision: what of a network an fp16 file computes in half, found by proof."""

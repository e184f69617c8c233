"""What all stages of Ganvas share: formats of files and messages, and small helpers. Imports nothing else of ours.

noise         the latent of a seed, bit for bit: the reference for every other implementation
interface     inputs and outputs of the Triton models of an exported model
names         names of models and files, default addresses
certificate   certificate.json: what an exported model is, and the proof that it is right
formats       the image file formats: names, file endings, first bytes
provenance    image files that say they are AI-generated, and from which model and seed
grid          many images on one sheet
files         files and folders that are written whole or not at all
telemetry     turns off ONNX Runtime's telemetry
session       ONNX Runtime on the CPU
cli           a command line from one options dataclass

Most need NumPy alone; provenance needs Pillow, session ONNX Runtime, cli pydantic and typer.
"""

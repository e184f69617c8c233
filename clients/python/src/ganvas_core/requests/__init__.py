"""What a request asks of a model: checked field by field, then planned batch by batch.

The sampling service and the client's direct path answer from the same checks and plans, so that both refuse in the
same words and make the same images.
"""

"""The studio: images over HTTP, each with a permanent address, and a page to look, choose, vary and blend.

addresses   paths and queries to what they ask for, and back
catalog     the models of the service, and which callers it accepts
images      images of seeds and latents: asked once, in batches, kept in bounded memory
sheets      several images in one: sheets and animations
uploads     any image file to one that a model's encoder takes
problems    every failure as problem+json
app         the routes
server      uvicorn, its socket and limits
local       a ./ganvas serve of its own, where none is running
static/     the page: HTML, CSS and JavaScript modules, as they are
"""

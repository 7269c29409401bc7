"""The way back: the weights of a result under the names and in the layouts of the upload.

``origins`` finds which weight of the upload each constant of the graph is, by their values alone.
``results`` reads the constants of the compressed graph, and which channels are left. ``weights``
puts both together. ``archive`` writes what the user downloads.
"""

"""The dataset loader: files -> samples -> splits -> batches.

`layout` lists the files of each class, `file_index` stores the measurements of each file, `inspection` finds issues, `manifest`
stores the split, `prepared_images` decodes each image once at the model's size, and `loader` feeds batches to Keras.
"""

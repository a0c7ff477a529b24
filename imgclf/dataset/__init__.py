"""THE dataset loader: a folder of pictures becomes samples, facts and findings, split parts, prepared pixels and batches.

`folder` says what lies there, `catalogue` what one look at each file told, `checks` what is wrong with which file; `manifest`
divides the pictures into parts, `prepared` decodes each once at the model's size, `batches` feeds them to Keras.
"""

from imgclf.dataset.batches import Labelled, Pictures, Vectors, names_in_order
from imgclf.dataset.catalogue import Catalogue, content_hashes, examine, examine_share, keep_known, pictures, stamp
from imgclf.dataset.folder import (
    Dataset,
    Found,
    Sample,
    auto_image_size,
    class_folders,
    classes,
    index,
    is_linked,
    merged_note,
    part_folders,
    scan,
    unlabelled_note,
)
from imgclf.dataset.manifest import (
    COLUMNS,
    Manifest,
    Row,
    added_classes,
    as_spelled,
    as_they_are,
    elsewhere_note,
    fold_paths,
    load_parts,
    manifest_path,
    read_manifest,
    with_renamed,
)
from imgclf.dataset.prepared import Prepared, content_of, link_or_copy, prepare, shard, store_pixels, stored

__all__ = [
    "COLUMNS",
    "Catalogue",
    "Dataset",
    "Found",
    "Labelled",
    "Manifest",
    "Pictures",
    "Prepared",
    "Row",
    "Sample",
    "Vectors",
    "added_classes",
    "as_spelled",
    "as_they_are",
    "auto_image_size",
    "class_folders",
    "classes",
    "content_hashes",
    "content_of",
    "elsewhere_note",
    "examine",
    "examine_share",
    "fold_paths",
    "index",
    "is_linked",
    "keep_known",
    "link_or_copy",
    "load_parts",
    "manifest_path",
    "merged_note",
    "names_in_order",
    "part_folders",
    "pictures",
    "prepare",
    "read_manifest",
    "scan",
    "shard",
    "stamp",
    "store_pixels",
    "stored",
    "unlabelled_note",
    "with_renamed",
]

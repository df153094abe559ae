"""What is refused, and how it is said. Imports nothing of ours: it is handed names, shapes, slots.

errors     the kinds of errors and warnings
say        how values and names are put into words
rules      what one option of a config may be; they stand beside the config's fields
unfit      inputs, layers and options that a method cannot work with
unmatched  names in a config that mean nothing in a model
refuse     what the verbs of a `PeftModel` refuse
misfit     what is said of files that do not fit the model
doubts     all warnings

What is computed, built or written lives in the other rooms.
"""

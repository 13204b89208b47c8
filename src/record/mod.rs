//! Record batches: checked header, scan, patch, re-encode, codecs.

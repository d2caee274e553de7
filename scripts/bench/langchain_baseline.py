"""Index a folder with LangChain, FAISS and sentence-transformers: the baseline of scripts/bench/indexing.py.

    PYTHON scripts/bench/langchain_baseline.py FOLDER MODEL_FOLDER

PYTHON needs langchain-community, langchain-text-splitters, langchain-huggingface, faiss-cpu and sentence-transformers.
As in tutorials, every text file is loaded, split and embedded, and the index saved. Prints one line of JSON.
"""

import json
import resource
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

from langchain_community.vectorstores import FAISS
from langchain_core.documents import Document
from langchain_huggingface import HuggingFaceEmbeddings
from langchain_text_splitters import RecursiveCharacterTextSplitter
from transformers import AutoTokenizer

CHUNK_TOKENS = 128


def main() -> None:
    folder, model = Path(sys.argv[1]), sys.argv[2]
    embeddings = HuggingFaceEmbeddings(model_name=model)
    tokenizer = AutoTokenizer.from_pretrained(model)
    started = time.perf_counter()
    documents = [
        Document(path.read_text(errors="replace"), metadata={"source": str(path)})
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    ]
    splitter = RecursiveCharacterTextSplitter.from_huggingface_tokenizer(
        tokenizer, chunk_size=CHUNK_TOKENS, chunk_overlap=0
    )
    chunks = splitter.split_documents(documents)
    store = FAISS.from_documents(chunks, embeddings)
    with tempfile.TemporaryDirectory() as target:
        store.save_local(target)
    figures = {
        "seconds": time.perf_counter() - started,
        "files": len(documents),
        "chunks": len(chunks),
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "versions": {name: version(name) for name in ("langchain-core", "langchain-community", "faiss-cpu", "torch")},
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()

"""./dev bench xet: one file of random bytes, read from the page cache. As a program, the peer: xet.py FILE prints seconds of hf_xet.hash_files."""
import pathlib
import random
import sys
import time

SIZE = 512 << 20


def bench(build, work, runs, measure, interleave, row):
    tool = [build / "bin/xet_bench"]
    file = work / "xet-random"
    if not file.exists():
        rng = random.Random(0)
        with open(file.with_suffix(".part"), "wb") as stream:
            for _ in range(SIZE >> 20):
                stream.write(rng.randbytes(1 << 20))
        file.with_suffix(".part").rename(file)
    peer = [sys.executable, "-W", "ignore", __file__, file]
    with open(file, "rb") as stream:
        while stream.read(1 << 20):
            pass
    runs = max(runs, 7)
    for threads, target in ((1, 1.1), (2, 1.5)):
        interleave(f"Xet hash of a 512 MiB file, threads: {threads}", [*tool, "hash", file, threads], peer, "hf_xet.hash_files", target, inside=True, runs=runs)
    for threads, target in ((1, None), (2, 0.8)):
        interleave(f"Xet hash + SHA-256 of it, threads: {threads}", [*tool, "hash", file, threads, "sha256"], [*tool, "sha256", file], "SHA-256 alone",
                   target, inside=True, runs=runs)
    for what, case in (("chunk", "cuts of it"), ("compress", "hashed and compressed into xorbs"), ("verify", "its xorbs decoded, hashed, compared")):
        row(f"{case}, one thread", [measure([*tool, what, file])[2][0] for _ in range(3)], None, "–", "s", None)


if __name__ == "__main__":
    import hf_xet

    hf_xet.hash_files([__file__])  # starts its threads
    start = time.perf_counter()
    hf_xet.hash_files([sys.argv[1]])
    print(time.perf_counter() - start)

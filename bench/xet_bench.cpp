// Our side of ./dev bench xet. Prints one number of seconds per line.
//   hash FILE THREADS [sha256]   hash_file
//   sha256 FILE                  OpenSSL alone, the same reads
//   chunk FILE                   cuts of a file in memory
//   compress FILE | verify FILE  chunks into xorbs; xorbs decoded, hashed and compared
#include <fcntl.h>
#include <pretrained/base/files.h>
#include <pretrained/base/sha256.h>
#include <pretrained/xet/hashing.h>
#include <pretrained/xet/xorb.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <iostream>

namespace xet = pretrained::xet;
using Clock = std::chrono::steady_clock;

// Full xorbs go to `done`.
template <class Done>
static void each_xorb(const std::string& file, Done done) {
  std::vector<uint64_t> ends;
  xet::Chunker chunker;
  chunker.feed(file, ends);
  chunker.finish(ends);
  xet::XorbWriter writer;
  std::string bytes;
  uint64_t begin = 0;
  auto flush = [&] {
    writer.finish(bytes);
    done(bytes);
  };
  for (uint64_t end : ends) {
    if (!writer.fits(end - begin)) flush();
    writer.append(std::string_view(file).substr(begin, end - begin));
    begin = end;
  }
  if (!writer.empty()) flush();
}

int main(int argc, char** argv) try {
  std::string what = argv[1], path = argv[2], file;
  std::vector<std::string> xorbs;
  if (what != "hash" && what != "sha256") file = pretrained::read_file(path, uint64_t(8) << 30);
  if (what == "verify") each_xorb(file, [&](auto& bytes) { xorbs.push_back(bytes); });
  auto start = Clock::now();
  if (what == "hash") {
    xet::HashOptions options{.threads = std::stoi(argv[3]), .sha256 = argc > 4};
    auto hashes = xet::hash_file(path, options);
    std::cerr << hashes.hash.hex() << " " << hashes.sha256 << "\n";
  } else if (what == "sha256") {
    pretrained::Sha256 hasher;
    pretrained::FileDescriptor descriptor(open(path.c_str(), O_RDONLY));
    std::vector<char> buffer(256 << 10);
    while (ssize_t got = read(descriptor.get(), buffer.data(), buffer.size()))
      hasher.update({buffer.data(), size_t(got)});
    std::cerr << hasher.hex() << "\n";
  } else if (what == "chunk") {
    std::vector<uint64_t> ends;
    xet::Chunker chunker;
    chunker.feed(file, ends);
  } else if (what == "compress") {
    uint64_t stored = 0;
    each_xorb(file, [&](auto& bytes) { stored += bytes.size(); });
    std::cerr << stored << " of " << file.size() << " bytes\n";
  } else if (what == "verify") {
    for (auto& xorb : xorbs) {
      xet::XorbVerifier verifier;
      verifier.feed(xorb);
      verifier.finish();
    }
  }
  std::cout << std::chrono::duration<double>(Clock::now() - start).count() << "\n";
  return 0;
} catch (const std::exception& error) {
  std::cerr << error.what() << "\n";
  return 1;
}

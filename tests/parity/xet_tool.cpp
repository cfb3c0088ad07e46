// hash FILE…            per file, for threads 1, 2, 3: "<xet hash> <sha256>"
// xorb FILE OUT         the chunks of FILE as one xorb; prints its hash
// unxorb XORB HASH OUT  verified and decoded
// shard IN OUT          read, written without footer; prints what it says of its files
// dedup IN KEY OUT      its xorbs as a deduplication answer under a key
#include <pretrained/base/error.h>
#include <pretrained/base/files.h>
#include <pretrained/xet/hashing.h>
#include <pretrained/xet/shard.h>
#include <pretrained/xet/xorb.h>

#include <iostream>

using namespace pretrained;

static void xorb(const std::string& file, const char* target) {
  std::vector<uint64_t> ends;
  xet::Chunker chunker;
  chunker.feed(file, ends);
  chunker.finish(ends);
  xet::XorbWriter writer;
  uint64_t begin = 0;
  for (uint64_t end : ends) {
    writer.append(std::string_view(file).substr(begin, end - begin));
    begin = end;
  }
  std::string bytes;
  std::cout << writer.finish(bytes).hash.hex() << "\n";
  write_file_atomically(target, bytes);
}

int main(int argc, char** argv) try {
  std::vector<std::string> args(argv + 1, argv + argc);
  auto read = [&](size_t i) { return read_file(args.at(i), uint64_t(1) << 30); };
  if (args.at(0) == "hash") {
    for (size_t i = 1; i < args.size(); ++i) {
      for (int threads : {1, 2, 3}) {
        auto hashes = xet::hash_file(args[i], {.threads = threads, .sha256 = true});
        std::cout << hashes.hash.hex() << " " << hashes.sha256 << "\n";
      }
    }
  } else if (args[0] == "xorb") {
    xorb(read(1), args.at(2).c_str());
  } else if (args[0] == "unxorb") {
    std::string bytes = read(1), out;
    for (auto& chunk : xet::verify_xorb(bytes, xet::Hash::parse(args.at(2)).value()).chunks)
      out += xet::decode_chunk(bytes, chunk);
    write_file_atomically(args.at(3), out);
  } else if (args[0] == "shard") {
    auto shard = xet::parse_shard(read(1));
    for (auto& file : shard.files)
      std::cout << file.hash.hex() << " " << file.size() << " " << file.sha256.value_or("-")
                << "\n";
    write_file_atomically(args.at(2), xet::serialize_shard(shard));
  } else if (args[0] == "dedup") {
    auto shard = xet::parse_shard(read(1));
    shard.files.clear();
    xet::ShardFooter footer{xet::Hash::parse(args.at(2)).value(), 1, uint64_t(1) << 40};
    write_file_atomically(args.at(3), xet::serialize_dedup_shard(shard, footer));
  }
  return 0;
} catch (const Error& error) {
  std::cerr << error.what() << "\n";
  return error.exit_code();
}

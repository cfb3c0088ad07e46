#pragma once
// Large content, stored once: chunks packed into xorbs, files as lists of chunk ranges (Xet), and
// the SHA-256 by which git-lfs and commits name them. LFS and plain HTTP uploads are chunked here
// too, so every large file has a Xet hash. Nothing is believed: chunks, xorbs, ranges, files and
// SHA-256 are all recomputed before they are registered. May be called from any thread.
//
// Rights: a repository may reference a xorb only if it uploaded it, was told of it by a dedup
// answer, or already holds a file of it. Leases: what an upload or a dedup answer promised stays
// for at least `lease` whatever the garbage collector thinks.

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "pretrained/xet/hash.h"
#include "server/storage/blobs.h"
#include "server/storage/database.h"

namespace pretrained::server {

struct ContentObject {
  std::string sha256;  // 64 hex digits
  uint64_t size = 0;
  xet::Hash xet_hash;  // canonical
};

// A run of chunks of one xorb.
struct Term {
  xet::Hash xorb;
  uint32_t first_chunk = 0, end_chunk = 0;
  uint64_t raw_length = 0;
};

// How to get (a range of) a file, for the reconstruction answers.
struct Reconstruction {
  uint64_t file_size = 0, offset_into_first_range = 0;
  struct Part {
    Term term;
    // The records of these chunks in the xorb's bytes: first, last (inclusive).
    uint64_t first_byte = 0, last_byte = 0;
  };
  std::vector<Part> parts;
};

class ContentStore {
 public:
  ContentStore(Database& database, BlobStore& blobs,
               std::chrono::seconds lease = std::chrono::hours(24));
  ~ContentStore();

  // Reads a xorb of at most 68 MiB, verifies it while it is written, stores it once. FormatError
  // when it is not `hash`. True: it was new.
  bool put_xorb(int64_t repo, const xet::Hash& hash,
                const std::function<size_t(char*, size_t)>& read);
  // Registers the files of a shard: every xorb known and permitted to the repository, ranges and
  // file hash and SHA-256 recomputed. `progress(verified bytes, total)`. True: something was new.
  bool put_shard(int64_t repo, std::string_view shard,
                 const std::function<void(uint64_t, uint64_t)>& progress = {});
  // A dedup answer (a shard with footer and a key of its own) for one chunk: only xorbs that belong
  // to repositories which the caller may read (`readable`), which it then may reference.
  std::optional<std::string> query_chunk(int64_t repo, const xet::Hash& chunk,
                                         const std::function<bool(int64_t repo)>& readable);

  // A file through LFS or plain HTTP: chunked, deduplicated, hashed in one pass, durable.
  // FormatError when size or SHA-256 are not as announced.
  ContentObject put_object(int64_t repo, const std::string& sha256, uint64_t size,
                           const std::function<size_t(char*, size_t)>& read);
  // Parts of a multipart upload, in any order and from several connections; complete() joins them.
  std::string start_multipart(int64_t repo, const std::string& sha256, uint64_t size,
                              uint64_t part_size);
  std::string put_part(const std::string& upload, uint32_t number,
                       const std::function<size_t(char*, size_t)>& read);  // returns its ETag
  ContentObject complete_multipart(const std::string& upload);

  // An object that this repository holds or has uploaded.
  std::optional<ContentObject> object(int64_t repo, const std::string& sha256);
  std::vector<std::optional<ContentObject>> objects(int64_t repo,
                                                    const std::vector<std::string>& sha256);
  // Renews the lease of an object for a repository that already has it; false where it has not.
  bool touch(int64_t repo, const std::string& sha256);
  // Gives `to` what `from` holds (copies between repositories).
  bool share(int64_t from, int64_t to, const std::string& sha256);
  // Inside the transaction that publishes a commit: these objects are now the repository's. Throws
  // NotFoundError naming the first that it does not have.
  void commit_objects(Transaction& transaction, int64_t repo,
                      const std::vector<std::string>& sha256);

  // By canonical or alias hash; only files that `repo` holds. HttpError-free: nothing where absent.
  std::optional<Reconstruction> reconstruct(int64_t repo, const xet::Hash& file, uint64_t first,
                                            uint64_t last);
  // A xorb's bytes for ranged, signed fetches.
  struct XorbFile {
    FileDescriptor file;
    uint64_t size = 0;
  };
  std::optional<XorbFile> open_xorb(const xet::Hash& hash);
  // Bytes [first, last] of an object, uncompressed chunks straight from their files.
  struct Output {
    std::function<void(std::string_view)> write;
    std::function<void(int fd, uint64_t offset, uint64_t length)> send_file;
  };
  void read(const ContentObject& object, uint64_t first, uint64_t last, const Output& output);
  std::string read_bytes(const ContentObject& object, uint64_t first, uint64_t length);

  // Garbage: objects that no repository holds and no lease protects, files of no object, xorbs of
  // no file. `committed`: for each repository the objects that its history still names.
  struct Freed {
    uint64_t objects = 0, files = 0, xorbs = 0, bytes = 0;
  };
  Freed collect();
  // Drops what a repository no longer names, given what it does.
  void keep_only(int64_t repo, const std::vector<std::string>& sha256);
  // Reads everything and compares: problems found.
  std::vector<std::string> fsck(bool read_bytes,
                                const std::function<void(uint64_t, uint64_t)>& progress);
  uint64_t used_bytes(int64_t repo);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace pretrained::server

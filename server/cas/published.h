#pragma once
// Blobs that wait for their rows. Unless keep() is called they are removed again.

#include <string>
#include <utility>
#include <vector>

#include "server/storage/blobs.h"

namespace pretrained::server {

class PublishedBlobs {
 public:
  explicit PublishedBlobs(BlobStore& blobs) : blobs_(blobs) {}
  PublishedBlobs(const PublishedBlobs&) = delete;
  ~PublishedBlobs() {
    for (auto& name : names_) try {
        blobs_.remove(name);
      } catch (const Error&) {
        // An orphan: sweep() takes it once this process is gone.
      }
  }
  const std::string& publish(StagedBlob&& staged, const std::string& proposed) {
    return names_.emplace_back(blobs_.publish(std::move(staged), proposed));
  }
  // Before the transaction that writes the rows: where its end is uncertain, an orphan is harmless
  // and a row without a blob is not.
  std::vector<std::string> keep() { return std::exchange(names_, {}); }

 private:
  BlobStore& blobs_;
  std::vector<std::string> names_;
};

}  // namespace pretrained::server

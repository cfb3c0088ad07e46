#pragma once
// For this room only: large files into the hub's store of chunks, in one pass over each file. The
// caller's thread reads, cuts, hashes and looks for chunks that are there already; others compress
// and send what is new. Memory: a few xorbs.

#include <memory>
#include <string>

#include "pretrained/hub/local_files.h"
#include "pretrained/hub/upload_progress.h"
#include "pretrained/hub/xet_store.h"

namespace pretrained::hub {

class XetUpload {
 public:
  XetUpload(const HubClient& client, const Repo& repo, XetStore& store, UploadProgress& progress);
  ~XetUpload();  // without finish() what is under way is given up
  // Its SHA-256. The file is stored after finish().
  std::string add(const LocalFile& file);
  // Returns when all files are stored, verified and registered.
  void finish();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace pretrained::hub

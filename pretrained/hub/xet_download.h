#pragma once
// Bytes of one file of a commit, out of Xet's store: a reconstruction says which chunks of which
// xorbs make up a range; the chunks come packed, in ranges of xorbs at addresses signed for them.
// A reconstruction names no chunk's hash: that the bytes are right shows the SHA-256 of the file.
// Spec: https://huggingface.co/docs/xet

#include <atomic>
#include <mutex>
#include <optional>

#include "pretrained/hub/client.h"
#include "pretrained/hub/fetch.h"

namespace pretrained::hub {

// For all files of one commit; any number of threads.
class XetReader {
 public:
  XetReader(const HubClient& client, Repo repo, std::string commit)
      : client_(client), repo_(std::move(repo)), commit_(std::move(commit)) {}

  // As fetch().
  void fetch(const Source& source, Range range, const FetchCallbacks& callbacks);

 private:
  XetToken token(bool renew);
  HttpResponse ask(const Source& source, Range range, const FetchCallbacks& callbacks);
  const HubClient& client_;
  Repo repo_;
  std::string commit_;
  std::mutex mutex_;
  std::optional<XetToken> token_;
  std::atomic<bool> only_v1_ = false;
};

}  // namespace pretrained::hub

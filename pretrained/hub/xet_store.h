#pragma once
// For this room only: the hub's store of chunks, as a writer to one repository sees it.
// https://huggingface.co/docs/xet/api

#include <atomic>
#include <functional>
#include <mutex>
#include <optional>
#include <string>

#include "pretrained/hub/client.h"
#include "pretrained/xet/shard.h"

namespace pretrained::hub {

// Any number of threads. A token that is about to expire, or that the store no longer takes, is
// replaced and the request repeated.
class XetStore {
 public:
  // Errors of HubClient::xet_token: the hub may have no such store.
  XetStore(const HubClient& client, const Repo& repo, const std::string& revision);

  // The answer to a query for a chunk; nothing where no xorb that we may read has it.
  std::optional<xet::Shard> find_chunk(const xet::Hash& chunk);
  bool has_xorb(const xet::Hash& xorb);
  // `on_sent` is told how many of the bytes are through; a repeated attempt begins at none.
  void put_xorb(const xet::Hash& xorb, std::string_view bytes,
                const std::function<void(uint64_t)>& on_sent);
  // Returns when the hub has verified and registered the shard's files: the bytes sent.
  uint64_t put_shard(const xet::Shard& shard);
  // Requests under way break off, from any thread.
  void cancel() { cancelled_ = true; }

 private:
  HttpResponse send(HttpRequest request, const std::string& path,
                    const std::function<void(uint64_t)>& on_sent = {});
  std::string url(const std::string& path);
  std::string token(const std::string& refused);
  bool registered(const HttpResponse& answer, bool last_attempt);

  const HubClient& client_;
  const Repo repo_;
  const std::string revision_, name_;
  std::atomic<bool> cancelled_ = false;
  std::mutex mutex_;
  XetToken token_;
};

}  // namespace pretrained::hub

#pragma once
// The environment that all clients of the hub share, Python's included
// (https://huggingface.co/docs/huggingface_hub/package_reference/environment_variables). Read each
// time it is asked for; nothing is cached.

#include <cstdint>
#include <filesystem>
#include <string>

#include "pretrained/base/export.h"

namespace pretrained::hub {

// HF_ENDPOINT without trailing slashes, else https://huggingface.co.
PRETRAINED_API std::string default_endpoint();
// HF_HOME, else XDG_CACHE_HOME/huggingface, else ~/.cache/huggingface.
PRETRAINED_API std::filesystem::path home_folder();
// HF_HUB_CACHE, else HUGGINGFACE_HUB_CACHE, else home_folder()/hub.
PRETRAINED_API std::filesystem::path cache_folder();
// HF_TOKEN_PATH, else home_folder()/token.
PRETRAINED_API std::filesystem::path token_file();
// HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE.
PRETRAINED_API bool is_offline();
// 1, ON, YES, TRUE in any case.
PRETRAINED_API bool is_true(const char* variable);

}  // namespace pretrained::hub

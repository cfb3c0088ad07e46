#pragma once
#include <vector>

namespace pretrained::server {
// SQL that takes the schema from version i to i + 1.
const std::vector<const char*>& migrations();
}  // namespace pretrained::server

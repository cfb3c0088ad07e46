#include "verbs.h"

const pretrained::cli::TorchVerbs* pretrained_torch_verbs() {
  using namespace pretrained::cli;
  static constexpr TorchVerbs kVerbs{predict, inspect, create, review};
  return &kVerbs;
}

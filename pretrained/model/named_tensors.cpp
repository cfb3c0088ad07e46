#include "pretrained/model/named_tensors.h"

#include "pretrained/base/error.h"

namespace pretrained {

// Outputs are few and looked through; a state_dict has a table.
constexpr size_t kFew = 16;

NamedTensors::NamedTensors(std::initializer_list<Item> items) {
  for (auto& [name, tensor] : items)
    if (tensor.defined()) insert(name, tensor);
}

const at::Tensor* NamedTensors::find(const std::string& name) const {
  if (items_.size() > kFew) {
    auto found = places_.find(name);
    return found == places_.end() ? nullptr : &items_[found->second].second;
  }
  for (auto& [key, tensor] : items_)
    if (key == name) return &tensor;
  return nullptr;
}

const at::Tensor& NamedTensors::operator[](const std::string& name) const {
  if (auto* tensor = find(name)) return *tensor;
  throw ArgumentError("there is no tensor '" + printable(name) +
                      "'; there are: " + (empty() ? "none" : names()));
}

void NamedTensors::insert(std::string name, at::Tensor tensor) {
  if (contains(name)) throw ArgumentError("the tensor '" + printable(name) + "' is given twice");
  items_.emplace_back(std::move(name), std::move(tensor));
  if (items_.size() <= kFew) return;
  for (size_t i = places_.size(); i < items_.size(); ++i) places_[items_[i].first] = i;
}

std::string NamedTensors::names() const {
  std::string out;
  for (auto& [name, tensor] : items_) out += (out.empty() ? "" : ", ") + printable(name);
  return out;
}

}  // namespace pretrained

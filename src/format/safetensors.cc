#include "format/safetensors.h"

#include "base/bytes.h"
#include "base/json.h"
#include "format/elements.h"

namespace moiety::format {
namespace {

// The reference implementation refuses larger headers too.
constexpr uint64_t kLargestHeader = 100'000'000;

std::vector<int64_t> read_shape(const JsonObject& entry) {
  std::vector<int64_t> shape;
  int64_t elements = 1;
  for (const Json& size : entry.array("shape")) {
    const bool fits = size.is_number_unsigned() && size.get<uint64_t>() <= uint64_t{1} << 48;
    require(fits && !__builtin_mul_overflow(elements, size.get<int64_t>(), &elements) && elements < int64_t{1} << 56,
            "{}: \"shape\" must be a list of sizes whose product fits a file", entry.where());
    shape.push_back(size.get<int64_t>());
  }
  return shape;
}

std::string known_dtypes() {
  std::string names;
  for (const auto& row : spec::element_types()) {
    if (!row.safetensors_name.empty()) names.append(names.empty() ? "" : ", ").append(row.safetensors_name);
  }
  return names;
}

TensorView read_entry(const std::string& name, const Json& json, std::span<const std::byte> data,
                      const std::string& file) {
  const JsonObject entry(json, fmt::format("{}: tensor {}", file, name));
  const std::string dtype = entry.text("dtype");
  const auto type = spec::from_safetensors_name(dtype);
  require(type.has_value(), "{}: dtype \"{}\" is not one that moiety knows ({})", entry.where(), dtype, known_dtypes());

  TensorView tensor{.name = name, .type = *type, .shape = read_shape(entry)};
  const Json& offsets = entry.array("data_offsets");
  require(offsets.size() == 2 && offsets[0].is_number_unsigned() && offsets[1].is_number_unsigned(),
          "{}: \"data_offsets\" must be two offsets", entry.where());
  const uint64_t begin = offsets[0].get<uint64_t>(), end = offsets[1].get<uint64_t>();
  require(begin <= end && end <= data.size(), "{}: bytes {} to {} lie outside the {} bytes of data", entry.where(),
          begin, end, data.size());
  const size_t wanted = spec::bytes_of(*type, static_cast<size_t>(tensor.elements()));
  require(end - begin == wanted, "{}: {} bytes of data, but its dtype and shape need {}", entry.where(), end - begin,
          wanted);
  tensor.bytes = data.subspan(begin, end - begin);
  return tensor;
}

}  // namespace

SafetensorsContents parse_safetensors(std::span<const std::byte> bytes, const std::string& name) {
  SafetensorsContents out;
  ByteReader reader(bytes, name);
  require(reader.remaining() >= 8, "{}: not a safetensors file: only {} bytes long", name, reader.remaining());
  const uint64_t header_bytes = reader.read<uint64_t>();
  require(header_bytes <= kLargestHeader && header_bytes <= reader.remaining(),
          "{}: not a safetensors file or truncated: it claims a header of {} bytes, {} follow", name, header_bytes,
          reader.remaining());
  const Json header = parse_json(reader.take_text(header_bytes), name);
  require(header.is_object(), "{}: the header is not a JSON object", name);

  const auto data = bytes.subspan(reader.position());
  for (const auto& [key, value] : header.items()) {
    if (key == "__metadata__") {
      require(value.is_object(), "{}: __metadata__ is not a JSON object", name);
      for (const auto& [k, v] : value.items()) {
        if (v.is_string()) out.metadata[k] = v.get<std::string>();
      }
      continue;
    }
    out.tensors.push_back(read_entry(key, value, data, name));
  }
  refuse_overlaps(out.tensors, name);
  return out;
}

SafetensorsFile::SafetensorsFile(const fs::path& path)
    : file_(path), contents_(parse_safetensors(file_.bytes(), path.string())) {}

SafetensorsHeader safetensors_header(const std::string& name, const std::vector<TensorSource>& tensors,
                                     const std::map<std::string, std::string>& metadata) {
  Json json = Json::object();
  if (!metadata.empty()) json["__metadata__"] = metadata;
  SafetensorsHeader header;
  size_t offset = 0;
  for (const TensorSource& tensor : tensors) {
    const std::string_view dtype = spec::info(tensor.type).safetensors_name;
    require(!dtype.empty(), "{}: tensor {}: safetensors has no {}; choose f32, f16 or bf16", name, tensor.name, spec::name(tensor.type));
    const size_t end = offset + spec::bytes_of(tensor.type, tensor.elements());
    json[tensor.name] = {{"dtype", dtype}, {"shape", tensor.shape}, {"data_offsets", {offset, end}}};
    header.begin_N.push_back(offset);
    offset = end;
  }
  std::string text = json.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');  // so that the data starts aligned
  const uint64_t size = text.size();
  header.bytes.assign(reinterpret_cast<const char*>(&size), sizeof size);
  header.bytes += text;
  for (size_t& begin : header.begin_N) begin += header.bytes.size();
  return header;
}

void write_safetensors(const fs::path& path, const std::vector<TensorSource>& tensors,
                       const std::map<std::string, std::string>& metadata) {
  const SafetensorsHeader header = safetensors_header(path.string(), tensors, metadata);
  AtomicFile file(path);
  file.write(header.bytes);
  for (const TensorSource& tensor : tensors) write_elements(file, tensor);
  file.commit();
}

void write_safetensors(const fs::path& path, const std::vector<TensorView>& tensors,
                       const std::map<std::string, std::string>& metadata) {
  write_safetensors(path, std::vector<TensorSource>(tensors.begin(), tensors.end()), metadata);
}

}  // namespace moiety::format

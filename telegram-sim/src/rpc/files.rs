//! Files: parts that come, documents made of them, and ranges that are read.

use super::Answer;
use crate::RpcError;
use crate::limits::Cost;
use crate::world::{Upload, World};
use bytes::Bytes;
use grammers_tl_types::{Serializable as _, enums, functions as f, types as t};
use std::collections::BTreeMap;

/// Largest part, and what every part's length must divide.
const PART_LEN_MAX: usize = 512 << 10;
/// Files above this have to be sent as big ones.
const SMALL_LEN_MAX: usize = 10 << 20;
/// No read crosses a multiple of this.
const WINDOW_LEN: i64 = 1 << 20;

pub(super) fn save_part(world: &mut World, user: i64, part: f::upload::SaveFilePart) -> Answer {
    save(world, (user, part.file_id), part.file_part, None, part.bytes)
}

pub(super) fn save_big_part(
    world: &mut World,
    user: i64,
    part: f::upload::SaveBigFilePart,
) -> Answer {
    let total = Some(part.file_total_parts);
    save(world, (user, part.file_id), part.file_part, total, part.bytes)
}

fn save(
    world: &mut World,
    file: (i64, i64),
    number: i32,
    total: Option<i32>,
    bytes: Vec<u8>,
) -> Answer {
    let parts_max = world.limits.parts_max;
    if total.is_some_and(|total| !(1..=parts_max).contains(&total)) {
        return Err(RpcError::bad("FILE_PARTS_INVALID"));
    }
    if !(0..total.unwrap_or(parts_max)).contains(&number) {
        return Err(RpcError::bad("FILE_PART_INVALID"));
    }
    match bytes.len() {
        0 => return Err(RpcError::bad("FILE_PART_EMPTY")),
        len if len > PART_LEN_MAX => return Err(RpcError::bad("FILE_PART_TOO_BIG")),
        len => world.charge(Cost::Upload(len))?,
    }
    let now = world.clock.now();
    let new = || Upload { parts: BTreeMap::new(), total };
    let upload = world.uploads.entry(file).or_insert_with(new);
    if upload.total != total {
        return Err(RpcError::bad("FILE_PARTS_INVALID"));
    }
    upload.parts.insert(number, (bytes.into(), now));
    Ok(true.to_bytes())
}

/// Makes a document of what was uploaded.
pub(super) fn make_document(
    world: &mut World,
    user: i64,
    media: enums::InputMedia,
) -> Result<i64, RpcError> {
    let enums::InputMedia::UploadedDocument(media) = media else {
        return Err(RpcError::bad("MEDIA_INVALID"));
    };
    let (file, count, name, checksum, is_big) = match media.file {
        enums::InputFile::File(file) => {
            (file.id, file.parts, file.name, Some(file.md5_checksum), false)
        }
        enums::InputFile::Big(file) => (file.id, file.parts, file.name, None, true),
        _ => return Err(RpcError::bad("MEDIA_INVALID")),
    };
    let body = assemble(world, (user, file), count)?;
    if !is_big && body.len() > SMALL_LEN_MAX {
        return Err(RpcError::bad("FILE_PARTS_INVALID"));
    }
    if let Some(checksum) = checksum.filter(|checksum| !checksum.is_empty())
        && format!("{:x}", md5::compute(&body)) != checksum
    {
        return Err(RpcError::bad("MD5_CHECKSUM_INVALID"));
    }
    let named = media.attributes.iter().find_map(|attribute| match attribute {
        enums::DocumentAttribute::Filename(named) => Some(named.file_name.clone()),
        _ => None,
    });
    world.uploads.remove(&(user, file));
    Ok(world.add_document(&named.unwrap_or(name), body))
}

fn assemble(world: &World, file: (i64, i64), count: i32) -> Result<Bytes, RpcError> {
    if count < 1 {
        return Err(RpcError::bad("FILE_PARTS_INVALID"));
    }
    let (now, age_max) = (world.clock.now(), world.limits.part_age_max);
    let part = |number: i32| {
        let upload = world.uploads.get(&file);
        let part = upload.and_then(|upload| upload.parts.get(&number));
        let is_fresh = |at| age_max.is_none_or(|max| now.saturating_sub(at) <= max);
        let part = part.filter(|(_, at)| is_fresh(*at)).map(|(bytes, _)| bytes);
        part.ok_or_else(|| RpcError::bad(format!("FILE_PART_{number}_MISSING")))
    };
    let len = part(0)?.len();
    if count > 1 && (!len.is_multiple_of(1024) || !PART_LEN_MAX.is_multiple_of(len)) {
        return Err(RpcError::bad("FILE_PART_SIZE_INVALID"));
    }
    let mut body = Vec::with_capacity(len * count as usize);
    for number in 0..count {
        let part = part(number)?;
        if part.len() > len || (part.len() < len && number + 1 < count) {
            return Err(RpcError::bad("FILE_PART_SIZE_CHANGED"));
        }
        body.extend_from_slice(part);
    }
    Ok(body.into())
}

pub(super) fn read(world: &mut World, dc: i32, request: &f::upload::GetFile) -> Answer {
    let enums::InputFileLocation::InputDocumentFileLocation(location) = &request.location else {
        return Err(RpcError::bad("LOCATION_INVALID"));
    };
    let document = world.documents.get(&location.id);
    let document = document.filter(|document| document.access_hash == location.access_hash);
    let Some(document) = document else { return Err(RpcError::bad("FILE_ID_INVALID")) };
    world.check_reference(&location.file_reference)?;
    if document.dc != dc {
        return Err(RpcError::new(303, format!("FILE_MIGRATE_{}", document.dc)));
    }
    let (offset, limit) = (request.offset, i64::from(request.limit));
    let unit = if request.precise { 1024 } else { 4096 };
    let divides = request.precise || (limit > 0 && WINDOW_LEN % limit == 0);
    if !(1..=WINDOW_LEN).contains(&limit) || limit % unit != 0 || !divides {
        return Err(RpcError::bad("LIMIT_INVALID"));
    }
    if offset < 0 || offset % unit != 0 || offset / WINDOW_LEN != (offset + limit - 1) / WINDOW_LEN
    {
        return Err(RpcError::bad("OFFSET_INVALID"));
    }
    let len = document.body.len() as i64;
    let (start, end) = (offset.min(len) as usize, (offset + limit).min(len) as usize);
    let bytes = document.body[start..end].to_vec();
    let file = t::upload::File {
        r#type: enums::storage::FileType::FileUnknown,
        mtime: document.date,
        bytes,
    };
    world.charge(Cost::Download(end - start))?;
    Ok(enums::upload::File::File(file).to_bytes())
}

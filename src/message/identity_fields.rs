//! Fields of the request that only an access policy may set, such as the name of the user.

use http::HeaderName;
use pingora::http::RequestHeader;

use super::cgi_name;

/// Removes the client's copies of these fields, under every name that CGI maps to the same name. Fields of `except` stay:
/// another policy has set them.
pub fn remove_fields(request: &mut RequestHeader, own: &[HeaderName], except: &[HeaderName]) {
    let is_forged = |name: &&HeaderName| {
        own.iter().any(|own| cgi_name::same(name.as_str(), own.as_str())) && !except.contains(name)
    };
    while let Some(name) = request.headers.keys().find(is_forged).cloned() {
        request.remove_header(&name);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn each_spelling_is_removed_and_the_field_of_another_policy_stays() {
        let mut request = RequestHeader::build("GET", b"/", None).unwrap();
        for name in ["X-User", "x_user", "X-Users", "X-Group", "x_group"] {
            request.append_header(name, "forged").unwrap();
        }
        let [user, group] = ["x-user", "x-group"].map(HeaderName::from_static);
        remove_fields(&mut request, &[user, group.clone()], &[group]);
        let mut left: Vec<&str> = request.headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["x-group", "x-users"]);
    }
}

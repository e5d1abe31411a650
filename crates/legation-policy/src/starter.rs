//! The policy that a new deployment begins with.

/// Name of the reference value for the program that made a deployment.
pub const THIS_BUILD: &str = "this-build";

/// A policy that admits the image of one reference value, not debuggable, and of SEV-SNP only from the most privileged
/// level. A deployment on development hardware says beside it that such evidence is allowed: the text does not.
pub fn starter(image: &str) -> String {
    format!(
        r#"// What enclaves of this pool must be. Denied is what no permit admits; a forbid wins over every permit.
// `legation policy check FILE` tells what is wrong here, `legation policy test FILE` what it would refuse now.

@id("known-image")
@fix("run the image that reference value `{image}` was made of, or make a reference value of this one")
permit (principal in Image::"{image}", action == Action::"admit", resource);

@id("no-debug")
@fix("launch the guest with a policy that forbids debugging")
forbid (principal, action, resource) when {{ principal.debug }};

@id("most-privileged-level")
forbid (principal, action, resource) when {{ principal has vmpl && principal.vmpl > 0 }};
"#
    )
}

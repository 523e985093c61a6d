//! Clients with a low id cannot be reached; the server to which they are logged in can ask them to connect to us.

use async_trait::async_trait;

/// A face that can have clients call back: the tracker client by its server, the tracker server itself.
#[async_trait]
pub(crate) trait CallBack: Send + Sync {
    /// Asks the client with this low id to connect to the bridge's seeder. What comes of it is seen when it connects.
    ///
    /// # Errors
    /// Why it could not be asked: nobody is logged in, the server says that it failed, …
    async fn call_back(&self, low_id: u32) -> Result<(), String>;
}
